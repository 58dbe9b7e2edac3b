# SPDX-License-Identifier: GPL-3.0-or-later
"""Real servers on this machine's loopback, for programs in sandboxes to talk to."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"
NGINX = """
daemon off; master_process off; {user} pid {root}/pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;
  uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
  server {{ listen 127.0.0.1:{port}; listen [::1]:{port}; root {root}/www; }}
}}
"""


def free_port() -> int:
    """A port that nobody had on either loopback a moment ago."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as one:
        return int(one.getsockname()[1])


def program(name: str) -> str:
    path = shutil.which(name, path=SYSTEM)
    assert path, f"{name} is missing"
    return path


def wait_until_listening(port: int, server: subprocess.Popen[bytes], host: str = "127.0.0.1") -> None:
    """Until somebody accepts there; no event tells of it, so it is asked again and again."""
    while True:
        assert server.poll() is None, "the server has ended"
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection((host, port), 5):
            return


@contextlib.contextmanager
def running(*command: str, port: int, host: str = "127.0.0.1") -> Iterator[None]:
    """A server process, from when it listens until the block ends."""
    with subprocess.Popen(
        [program(command[0]), *command[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            wait_until_listening(port, server, host)
            yield
        finally:
            server.terminate()
            server.wait(10)


@contextlib.contextmanager
def nginx(pages: dict[str, bytes]) -> Iterator[int]:
    """nginx on both loopbacks with these pages; the port."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="torbox-nginx-") as directory:
        root = Path(directory)
        root.chmod(0o755)
        (root / "www").mkdir()
        for name, content in pages.items():
            (root / "www" / name).write_bytes(content)
        user = "user root root;" if os.geteuid() == 0 else ""
        configuration = root / "nginx.conf"
        configuration.write_text(NGINX.format(root=root, port=port, user=user))
        arguments = ("-p", str(root), "-c", str(configuration), "-e", "stderr")
        with running("nginx", *arguments, port=port):
            yield port
