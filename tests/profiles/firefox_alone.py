# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Firefox in a network where every name is here, and tell what it asked for.

Started by test_browser.py within new user, mount and network namespaces, as their root:

    python firefox_alone.py HOME URL [NAME=VALUE…]

A name server and a web server on loopback answer everything. Firefox takes a screenshot of the URL;
one JSON object on stdout then holds the names that were resolved and the requests that were made.
"""

from __future__ import annotations

import ctypes
import http.server
import json
import os
import socket
import socketserver
import struct
import subprocess
import sys
import threading
from fcntl import ioctl
from pathlib import Path

MS_BIND = 4096
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
DEADLINE_S = 60  # a refused name makes Firefox wait for ever

PAGE = b"""<!doctype html><title>t</title><script>
new Image().src = "/report?webrtc=" + typeof RTCPeerConnection + "&cores=" + navigator.hardwareConcurrency
</script>"""

names: set[str] = set()
requests: set[str] = set()


class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        requests.add(f"{self.headers['Host']}{self.path}")
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve_names(server: socket.socket) -> None:
    """Answer every A question with 127.0.0.1 and every other with nothing."""
    while True:
        query, asker = server.recvfrom(2048)
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]])
            at += 1 + query[at]
        names.add(b".".join(labels).decode())
        is_a = query[at + 1 : at + 3] == b"\0\1"
        answer = (
            b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton("127.0.0.1") if is_a else b""
        )
        header = query[:2] + b"\x81\x80" + struct.pack("!HHHH", 1, 1 if is_a else 0, 0, 0)
        server.sendto(header + query[12 : at + 5] + answer, asker)


def main(home: Path, url: str, variables: list[str]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    own_files = {
        "resolv.conf": "nameserver 127.0.0.1\n",
        "nsswitch.conf": "hosts: files dns\n",
        "hosts": f"127.0.0.1 localhost {socket.gethostname()}\n",
    }
    for name, text in own_files.items():
        own = home / name
        own.write_text(text)
        over = os.path.realpath(f"/etc/{name}")
        if libc.mount(os.fsencode(own), os.fsencode(over), None, MS_BIND, None) != 0:
            raise OSError(ctypes.get_errno(), f"cannot bind {over}")
    with socket.socket() as any_socket:
        ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))

    name_server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    name_server.bind(("127.0.0.1", 53))
    threading.Thread(target=serve_names, args=(name_server,), daemon=True).start()
    site = socketserver.ThreadingTCPServer(("127.0.0.1", 80), Site)  # HTTPServer would ask for its own name
    threading.Thread(target=site.serve_forever, daemon=True).start()

    environ = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TZ": "UTC"}
    environ.update(variable.split("=", 1) for variable in variables)
    screenshot = home / "page.png"
    try:
        subprocess.run(
            ["firefox-esr", "--headless", "--screenshot", str(screenshot), url],
            env=environ, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, check=False,
            timeout=DEADLINE_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pass
    report = {"screenshot": screenshot.exists(), "names": sorted(names), "requests": sorted(requests)}
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
    os._exit(0)  # the servers have nothing to tidy
