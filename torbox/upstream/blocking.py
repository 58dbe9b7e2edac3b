# SPDX-License-Identifier: GPL-3.0-or-later
"""One SOCKS conversation with a blocking socket: the checks before a sandbox starts."""

from __future__ import annotations

import socket
import time

from torbox.errors import UpstreamError
from torbox.upstream.socks5_protocol import MAX_REPLY, Reply, Socks5Client, Socks5Denied, Socks5Error
from torbox.upstream.url import UpstreamUrl


def place_of(url: UpstreamUrl) -> tuple[int, tuple[str, int] | str]:
    """Address family and address to connect to. ValueError if the host is a name or missing."""
    if url.path:
        return socket.AF_UNIX, url.path
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, url.host)
        except OSError:
            continue
        return family, (url.host, url.port)
    raise ValueError("the host of an upstream must be an address by now")


def converse(url: UpstreamUrl, client: Socks5Client, timeout_s: float) -> Reply | None:
    """Speak until the reply, or, when nothing was to be requested, until the server would serve us (None).

    `timeout_s` is for all of it. UpstreamError says what is wrong and what to do.
    """
    family, address = place_of(url)
    end = time.monotonic() + timeout_s
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(address)
            sock.sendall(client.opening())
            while client.reply is None:
                sock.settimeout(max(end - time.monotonic(), 0.001))
                data = sock.recv(MAX_REPLY)
                if not data:
                    raise Socks5Error("the server hung up")
                to_send = client.receive(data)
                if to_send:
                    sock.sendall(to_send)
                elif client.granted and client.wants_nothing:
                    return None
            return client.reply
    except Socks5Denied as denied:
        raise UpstreamError(
            f"upstream {url}: {denied}",
            advice="Write the user name and password that it expects, as in socks5://user:pass@host:port.",
        ) from None
    except Socks5Error as error:
        raise UpstreamError(
            f"upstream {url}: {error}", advice="Check that this is the address of the proxy's SOCKS port."
        ) from None
    except TimeoutError:
        raise UpstreamError(
            f"upstream {url}: no answer within {timeout_s:g} s",
            advice="Check that it is running and that the address is right.",
        ) from None
    except OSError as failure:
        raise UpstreamError(
            f"upstream {url}: {failure.strerror or failure}", advice=_advice(url, failure)
        ) from None


def _advice(url: UpstreamUrl, error: OSError) -> str:
    if isinstance(error, PermissionError) and url.path:
        return "Your user may not use this socket; for Debian's Tor, join the group debian-tor."
    if isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
        return "Nothing listens there. Start it, or name another place with --upstream."
    return "Check that it is running and that the address is right."
