# SPDX-License-Identifier: GPL-3.0-or-later
"""The text that names an upstream, taken apart. Pure: no look-up, no import of the upstream.

    tor                          a scheme alone: the upstream finds its place itself
    tor://127.0.0.1:9050         reached by TCP
    tor+unix:/run/tor/socks      reached by a Unix socket
    socks5://user:pass@host:1080 with credentials, %XX for bytes that would not fit in

The scheme is the name of a module of this package; `+unix` behind it says how the place is reached.
What a scheme allows is its module's `URL`, a UrlShape. No message ever repeats a password, nor a text
in which one may hide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from torbox.errors import UsageError

MAX_CREDENTIAL = 255  # bytes, RFC 1929 §2: lengths of one byte
MAX_UNIX_PATH = 107  # bytes, unix(7): sun_path holds 108 with the final zero
MAX_HOST = 253  # characters of a name, RFC 1035 §2.3.4 without the root

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9]*(\+unix)?")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


@dataclass(frozen=True)
class UrlShape:
    """What may stand behind a scheme: `example` is shown in messages."""

    example: str
    place: bool = True  # host and port, or a Unix socket, may be given
    place_needed: bool = False
    credentials: bool = False
    default_port: int = 0  # 0: a port must be given


@dataclass(frozen=True)
class UpstreamUrl:
    """Where an upstream is. Either host and port, or a path, or neither of them."""

    scheme: str
    host: str = ""  # a name or an address literal, IPv6 without brackets
    port: int = 0
    path: str = ""  # of a Unix socket, absolute
    username: bytes = b""
    password: bytes = field(default=b"", repr=False)

    @property
    def has_place(self) -> bool:
        return bool(self.host or self.path)

    @property
    def credentials(self) -> tuple[bytes, bytes] | None:
        return (self.username, self.password) if self.username else None

    def __str__(self) -> str:
        """As a user may see it: with the user's name but without the password."""
        if self.path:
            return f"{self.scheme}+unix:{self.path}"
        if not self.host:
            return self.scheme
        user = f"{self.username.decode('ascii', 'backslashreplace')}:***@" if self.username else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{user}{host}:{self.port}"


def split_scheme(text: str) -> tuple[str, bool, str]:
    """Scheme in lower case, whether `+unix` follows, and the rest behind the colon. UsageError."""
    scheme, colon, rest = text.partition(":")
    match = _SCHEME.fullmatch(scheme)
    if match is None:
        raise UsageError(
            "upstream: this does not begin with a scheme",
            advice="Write tor, tor://host:port, tor+unix:PATH, socks5://[user:pass@]host:port, direct"
            " or block.",
        )
    unix = match[1] is not None
    name = scheme.lower().removesuffix("+unix")
    if unix and not rest:
        raise UsageError(f"upstream {name}+unix: no path", advice=f"Write {name}+unix:/path/to/socket.")
    if colon and not rest:
        raise UsageError(
            f"upstream {name}: nothing follows the colon", advice=f"Write {name} alone, or more."
        )
    return name, unix, rest


def parse(scheme: str, unix: bool, rest: str, shape: UrlShape) -> UpstreamUrl:
    """The rest of a URL whose scheme is known to allow `shape`. UsageError."""
    if not rest:
        if shape.place_needed:
            raise _wrong(scheme, "no host and port", shape)
        return UpstreamUrl(scheme)
    if not shape.place:
        raise _wrong(scheme, "nothing may follow this scheme", shape)
    if unix:
        return UpstreamUrl(scheme, path=_unix_path(scheme, rest, shape))
    if not rest.startswith("//"):
        raise _wrong(scheme, "'//' is missing behind the scheme", shape)
    return _authority(scheme, rest[2:].removesuffix("/"), shape)


def _wrong(scheme: str, what: str, shape: UrlShape) -> UsageError:
    return UsageError(f"upstream {scheme}: {what}", advice=f"Write for example {shape.example}.")


def _unix_path(scheme: str, rest: str, shape: UrlShape) -> str:
    path = rest[2:] if rest.startswith("///") else rest
    if not path.startswith("/"):
        raise _wrong(f"{scheme}+unix", "the path of the socket must be absolute", shape)
    if "\0" in path or len(path.encode("utf-8", "surrogateescape")) > MAX_UNIX_PATH:
        raise _wrong(f"{scheme}+unix", f"the path of a socket has at most {MAX_UNIX_PATH} bytes", shape)
    return path


def _authority(scheme: str, authority: str, shape: UrlShape) -> UpstreamUrl:
    user_info, at, place = authority.rpartition("@")
    username = password = b""
    if at:
        if not shape.credentials:
            raise _wrong(scheme, "it takes no user and password: each sandbox gets its own", shape)
        user_text, colon, password_text = user_info.partition(":")
        username = _credential(scheme, "user name", user_text, shape)
        if not colon:
            raise _wrong(scheme, "a user name needs a password", shape)
        password = _credential(scheme, "password", password_text, shape)
    host, port = _place(scheme, place, shape)
    return UpstreamUrl(scheme, host=host, port=port, username=username, password=password)


def _place(scheme: str, place: str, shape: UrlShape) -> tuple[str, int]:
    if place.startswith("["):
        host, bracket, port_text = place[1:].partition("]")
        if not bracket or not re.fullmatch(r"[0-9A-Fa-f:.]+", host) or ":" not in host:
            raise _wrong(scheme, "between [ and ] there must be an IPv6 address", shape)
        colon, port_text = port_text[:1], port_text[1:]
        if colon not in ("", ":"):
            raise _wrong(scheme, "only :port may follow the ]", shape)
    else:
        host, colon, port_text = place.partition(":")
        if ":" in port_text:
            raise _wrong(scheme, "more than one colon: an IPv6 address stands between [ and ]", shape)
        if len(host) > MAX_HOST or not _HOST.fullmatch(host):
            raise _wrong(scheme, "the host is neither a name nor an address", shape)
    if not colon:
        if not shape.default_port:
            raise _wrong(scheme, "no port", shape)
        return host, shape.default_port
    # The text is not repeated: in socks5://user:secret it is the password, the host forgotten.
    if not re.fullmatch(r"[0-9]{1,5}", port_text) or not 0 < int(port_text) < 65536:
        raise _wrong(scheme, "the port is not a number from 1 to 65535", shape)
    return host, int(port_text)


def _credential(scheme: str, what: str, text: str, shape: UrlShape) -> bytes:
    """The bytes of a user name or password: UTF-8, with %XX for any byte."""
    out = bytearray()
    parts = text.split("%")
    out += parts[0].encode("utf-8", "surrogateescape")
    for part in parts[1:]:
        if not re.match(r"[0-9A-Fa-f]{2}", part):
            raise _wrong(scheme, f"in the {what}, % must be followed by two hexadecimal digits", shape)
        out.append(int(part[:2], 16))
        out += part[2:].encode("utf-8", "surrogateescape")
    if not 0 < len(out) <= MAX_CREDENTIAL:
        raise _wrong(scheme, f"the {what} must have 1 to {MAX_CREDENTIAL} bytes", shape)
    return bytes(out)
