# SPDX-License-Identifier: GPL-3.0-or-later
"""A cookie of the sandbox's own: as much of the X11 protocol as it takes to ask a server for one.

X Window System Protocol, version 11, §8 (connection setup); Security Extension Specification, version 7.1.

An untrusted cookie is what makes X11 bearable: with it the server keeps a program from the windows, keys and
pictures of others. Most servers let their user in without any, too (`xhost +si:localuser:NAME`, as Debian has
it), and then with everything allowed. So a program that is not trusted reaches the doorman alone, who says
the untrusted cookie in its stead (x11_filter.py); the program never sees it. A server that is started anew
does not know the cookie, and would let the doorman in as its user: so he leaves with the server that made it.

The cookie lives as long as a connection that holds it, and a few seconds: however torbox ends, the server
forgets it. Everything is said in little-endian.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from torbox.errors import SetupError

SOCKETS = "/tmp/.X11-unix"
_DISPLAY = re.compile(r"(?:unix)?:(\d{1,5})(?:\.\d+)?")
_COOKIE = b"MIT-MAGIC-COOKIE-1"
_FAMILY_WILD = 0xFFFF  # Xauth(3): whatever the host is called
_TIMEOUT_S = 10  # for all of a server's answers; and for what the cookie outlives its last connection
_TIMEOUT_MASK, _TRUST_MASK = 1, 2  # XSecurityTimeout, XSecurityTrustLevel
_TRUSTED, _UNTRUSTED = 0, 1
_FILE_MAX = 1 << 20  # bytes of an Xauthority file that are read
_REPLY_MAX = 64 << 10  # bytes of a server's reply; a cookie's has some 50
_STEP = "share the X server"

Field = Callable[[int], int]  # the number that stands in a request at an offset, in bytes


class Cookie(NamedTuple):
    """An entry of an Xauthority file."""

    family: int
    address: bytes
    number: bytes
    name: bytes
    data: bytes


def display_number(display: str) -> int | None:
    """The number of a display of this machine, None for any other."""
    found = _DISPLAY.fullmatch(display)
    return int(found[1]) if found else None


def parse(content: bytes) -> Iterator[Cookie]:
    """The entries of an Xauthority file, up to where it is damaged; Xau(3), "The authorization file"."""
    at = 0
    try:
        while at < len(content):
            (family,) = struct.unpack_from(">H", content, at)
            at += 2
            fields = []
            for _ in range(4):
                (length,) = struct.unpack_from(">H", content, at)
                fields.append(content[at + 2 : at + 2 + length])
                if len(fields[-1]) != length:
                    return
                at += 2 + length
            yield Cookie(family, *fields)
    except struct.error:
        return


def emit(cookie: Cookie) -> bytes:
    """One entry."""
    fields = (cookie.address, cookie.number, cookie.name, cookie.data)
    return struct.pack(">H", cookie.family) + b"".join(struct.pack(">H", len(each)) + each for each in fields)


def admit(path: str, xauthority: str, *, trusted: bool) -> tuple[bytes, socket.socket]:
    """A cookie, and the connection that keeps it valid.

    `path` is the server's socket, `xauthority` the file of the session's cookies. Raises SetupError.
    """
    until = time.monotonic() + _TIMEOUT_S
    ours, cookie = _connect(path, None, until), None  # as it lets its user's programs in
    if ours is None:
        for cookie in _cookies_of(xauthority, path.rpartition("/X")[2].encode()):
            if (ours := _connect(path, cookie, until)) is not None:
                break
    if ours is None:
        raise SetupError(_STEP, 0, f"no cookie in {xauthority} is right", advice="Set XAUTHORITY.")
    with ours:
        data = _generate(ours, until, trusted=trusted)
        if data is None and trusted:
            return cookie or b"", ours.dup()  # the session's own, then
        if data is None:
            raise SetupError(
                _STEP, 0, "it has no SECURITY extension, so no program can have a cookie of its own",
                advice="A Wayland compositor, or a server of its own such as Xephyr, does without.",
            )  # fmt: skip
        # Before the first connection is let go: a server that has no client left may start anew.
        held = _connect(path, data, until)
    if held is None:
        raise SetupError(_STEP, 0, "it does not know the cookie that it has just made")
    return data, held


def xauthority(cookie: bytes) -> bytes:
    """An Xauthority file for display 0, whatever the host is called."""
    return emit(Cookie(_FAMILY_WILD, b"", b"0", _COOKIE, cookie)) if cookie else b""


def look_up(connection: socket.socket, names: Sequence[bytes], extension: bytes) -> tuple[list[int], int]:
    """The atoms of these names, and the opcode of an extension, 0 without it. Raises SetupError."""
    until = time.monotonic() + _TIMEOUT_S
    asked = b"".join(
        struct.pack("<BxHHxx", 16, 2 + len(_padded(name)) // 4, len(name)) + _padded(name) for name in names
    )
    try:
        connection.settimeout(_TIMEOUT_S)
        connection.sendall(asked)  # InternAtom
        answers = [_reply(connection, until) for _ in names]
        opcode = _opcode(connection, extension, until)
    except OSError as error:
        raise SetupError(_STEP, error.errno or 0, "it does not answer") from error
    atoms = [struct.unpack_from("<I", answer, 8)[0] if answer else 0 for answer in answers]
    if 0 in atoms:
        raise SetupError(_STEP, 0, "it gives no numbers to names")
    return atoms, opcode


def _cookies_of(path: str, number: bytes) -> list[bytes]:
    """What may open this display, the likeliest first."""
    try:
        with open(path, "rb") as file:
            cookies = [each for each in parse(file.read(_FILE_MAX)) if each.name == _COOKIE]
    except OSError as error:
        raise SetupError(_STEP, error.errno or 0, path, advice="Set XAUTHORITY, or see xauth(1).") from error
    fitting = [each for each in cookies if each.number in (b"", number)]
    host = os.uname().nodename.encode()
    fitting.sort(key=lambda each: each.address != host)
    return list(dict.fromkeys(each.data for each in fitting))[:16]


def _connect(path: str, cookie: bytes | None, until: float) -> socket.socket | None:
    """A client's connection; None if the server does not let it in. SetupError if it does not answer."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_TIMEOUT_S)
    try:
        connection.connect(path)
        connection.sendall(setup("<", ord("l"), 11, 0, cookie))
        status, length = struct.unpack("<BxxxxxH", _exactly(connection, 8, until))
        _exactly(connection, length * 4, until)
    except OSError as error:
        connection.close()
        raise SetupError(_STEP, error.errno or 0, path) from error
    if status == 1:
        return connection
    connection.close()
    return None


def setup(order: str, byte_order: int, major: int, minor: int, cookie: bytes | None) -> bytes:
    """A client's first words, §8 of the protocol."""
    name, data = (b"", b"") if cookie is None else (_COOKIE, cookie)
    head = struct.pack(f"{order}BxHHHHxx", byte_order, major, minor, len(name), len(data))
    return head + _padded(name) + _padded(data)


def _generate(connection: socket.socket, until: float, *, trusted: bool) -> bytes | None:
    """SecurityGenerateAuthorization: a new cookie; None if the server cannot."""
    try:
        if not (opcode := _opcode(connection, b"SECURITY", until)):
            return None
        connection.sendall(struct.pack("<BBHHH", opcode, 0, 2, 1, 0))  # SecurityQueryVersion
        if _reply(connection, until) is None:
            return None
        values = struct.pack("<II", _TIMEOUT_S, _TRUSTED if trusted else _UNTRUSTED)
        body = struct.pack("<HHI", len(_COOKIE), 0, _TIMEOUT_MASK | _TRUST_MASK) + _padded(_COOKIE) + values
        connection.sendall(struct.pack("<BBH", opcode, 1, 1 + len(body) // 4) + body)
        answer = _reply(connection, until)
    except OSError as error:
        raise SetupError(_STEP, error.errno or 0, "it does not answer") from error
    if answer is None:
        return None
    (length,) = struct.unpack_from("<H", answer, 12)
    return answer[32 : 32 + length]


def _opcode(connection: socket.socket, extension: bytes, until: float) -> int:
    """What an extension's requests begin with, 0 if the server has none of this name."""
    name = _padded(extension)
    connection.sendall(
        struct.pack("<BxHHxx", 98, 2 + len(name) // 4, len(extension)) + name
    )  # QueryExtension
    present, opcode = struct.unpack_from("<BB", _reply(connection, until) or bytes(32), 8)
    return int(opcode) if present else 0


def _reply(connection: socket.socket, until: float) -> bytes | None:
    """The next reply; None if it is an error. Events are passed over."""
    while True:
        message = _exactly(connection, 32, until)
        if message[0] == 0:
            return None
        if message[0] == 1:
            size = 4 * struct.unpack_from("<I", message, 4)[0]
            if size > _REPLY_MAX:
                raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
            return message + _exactly(connection, size, until)


def _exactly(connection: socket.socket, size: int, until: float) -> bytes:
    """So many bytes, if they are all there in time (time.monotonic())."""
    found = bytearray()
    while len(found) < size:
        left = until - time.monotonic()
        connection.settimeout(max(left, 1e-6))  # 0 would be not to wait, and another error
        try:
            chunk = connection.recv(size - len(found))
        except TimeoutError:  # Python's own has no number
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
        if not chunk:
            raise ConnectionResetError(104, "Connection reset by peer")
        found += chunk
    return bytes(found)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 4)
