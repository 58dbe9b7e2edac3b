# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the benchmark runs: as root, in a network of its own with a second machine beside it.

    the benchmark ── 192.175.48.5 ── veth, MTU 65520 ── 192.175.48.80 ── the far server
    its loopback: the near server, the SOCKS proxy, the private Tor network

torbox does not ask a proxy for this machine's own addresses, so what lies behind a proxy must be elsewhere.
An ordinary user can make no such network: then the machine's own is used, and the rows of SOCKS are left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

NEAR, FAR = "192.175.48.5", "192.175.48.80"
_INSIDE = "TORBOX_BENCH_LAB"
_PATIENCE_S = 10.0


def enter(module: str, arguments: Sequence[str]) -> None:
    """As root: begin again in a network of its own; returns there, or at once for an ordinary user."""
    if os.geteuid() == 0 and _INSIDE not in os.environ:
        command = ["unshare", "--net", sys.executable, "-m", module, *arguments]
        os.execvpe(command[0], command, {**os.environ, _INSIDE: "1"})


def is_made() -> bool:
    return _INSIDE in os.environ


@contextlib.contextmanager
def far_machine() -> Iterator[Sequence[str]]:
    """The second machine; yields what goes before a command that shall run there."""
    _ip("link", "set", "lo", "up")
    far = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    try:
        _wait_until_apart(far.pid)
        _ip("link", "add", "veth0", "mtu", "65520", "type", "veth", "peer", "name", "veth1", "mtu", "65520")
        _ip("link", "set", "veth1", "netns", str(far.pid))
        _ip("addr", "add", f"{NEAR}/24", "dev", "veth0")
        _ip("link", "set", "veth0", "up")
        enter_far = ("nsenter", f"--net=/proc/{far.pid}/ns/net", "--")
        _ip("link", "set", "lo", "up", prefix=enter_far)
        _ip("addr", "add", f"{FAR}/24", "dev", "veth1", prefix=enter_far)
        _ip("link", "set", "veth1", "up", prefix=enter_far)
        _ip("route", "add", "default", "via", FAR)
        yield enter_far
    finally:
        far.kill()
        far.wait()


def _ip(*words: str, prefix: Sequence[str] = ()) -> None:
    subprocess.run([*prefix, "ip", *words], check=True, timeout=_PATIENCE_S)


def _wait_until_apart(pid: int) -> None:
    end = time.monotonic() + _PATIENCE_S
    ours = os.readlink("/proc/self/ns/net")
    while os.readlink(f"/proc/{pid}/ns/net") == ours:
        if time.monotonic() > end:
            raise TimeoutError("no network of its own for the far machine")
        time.sleep(0.005)  # unshare(1) tells nobody when it is done


def gateway() -> str:
    """This machine's IPv4 gateway, "" if there is none."""
    shown = subprocess.run(
        ["ip", "-j", "-4", "route", "show", "default"], capture_output=True, text=True, timeout=_PATIENCE_S
    )
    routes = json.loads(shown.stdout or "[]")
    return str(routes[0].get("gateway", "")) if routes else ""


@contextlib.contextmanager
def socks_proxy(prefix: Sequence[str]) -> Iterator[int]:
    """A microsocks on loopback; its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [*prefix, "microsocks", "-i", "127.0.0.1", "-p", str(port)]
    proxy = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_port(port)
        yield port
    finally:
        proxy.kill()
        proxy.wait()


def _wait_for_port(port: int) -> None:
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)  # microsocks tells nobody when it listens


def machine() -> str:
    """What it was measured on, for the document."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU")
    linux = ".".join(os.uname().release.split(".")[:2])
    return f"{os.cpu_count()} × {model}, Linux {linux}, Python {sys.version.split()[0]}"
