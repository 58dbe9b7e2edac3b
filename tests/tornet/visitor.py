# SPDX-License-Identifier: GPL-3.0-or-later
"""An independent SOCKS client for looking at the network: PySocks, which shares nothing with torbox's own."""

from __future__ import annotations

import contextlib

import socks


def fetch(
    proxy: tuple[str, int],
    host: str,
    port: int,
    path: str = "/",
    *,
    user: str | None = None,
    password: str = "x",
    timeout_s: float = 30,
) -> bytes:
    """One HTTP/1.0 exchange through a SOCKS5 proxy: everything the server sent. Raises OSError."""
    with contextlib.closing(socks.socksocket()) as visit:
        visit.set_proxy(
            socks.SOCKS5, *proxy, rdns=True, username=user, password=None if user is None else password
        )
        visit.settimeout(timeout_s)
        visit.connect((host, port))
        visit.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        answer = b""
        while block := visit.recv(65_536):
            answer += block
        return answer
