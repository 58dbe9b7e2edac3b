# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of PulseAudio's native protocol that may pass, each written anew from what was understood.

A command is a list of tagged values (pulsecore/tagstruct.c); which ones it has is said by protocol-native.c.
`rebuilt` reads them all and writes them again, and what it has no form for never reaches the server:

    property lists    replaced by torbox's own. The server's modules act upon them for its user: by
                      filter.apply, module-filter-apply loads a module with any arguments, such as a library's
                      path; media.role silences others; pipewire-pulse takes a target or a node's rules
    devices           the session's choice, whatever is named: another may be on the network
    volumes           100 % at most
    encodings         PCM alone, described by four properties of a strict form
    names in queries  what a device may be called, and no more

The forms are those of protocol versions 22 (PulseAudio 1.0, 2011) to 35, which is all that is agreed on.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

VERSION_MIN, VERSION_MAX = 22, 35
VERSION = 0x0000FFFF  # of AUTH's version; above it are the offers of shared memory
VOLUME_MAX = 0x10000  # PA_VOLUME_NORM, 100 %
TEXT_MAX = 1024  # bytes of a name or a property's key; PulseAudio's own names have 128
FORMATS_MAX = 8  # that a stream is offered in; GStreamer offers one for each encoding
_CHANNELS_MAX = 32  # PA_CHANNELS_MAX
_COOKIE = 256  # bytes; PA_NATIVE_COOKIE_LENGTH
_PCM = 1  # PA_ENCODING_PCM
_MERGE = 1  # PA_UPDATE_MERGE
_INVALID = struct.pack(">cI", b"L", 0xFFFFFFFF)  # PA_INVALID_INDEX
_DEVICE = re.compile(rb"[A-Za-z0-9._@-]{1,128}")  # pa_namereg_is_valid_name_or_wildcard, somewhat stricter
_NUMBER, _WORDS = re.compile(rb"\d{1,6}\0"), re.compile(rb'"[a-z0-9,-]{1,600}"\0')  # JSON
_PCM_PROPERTIES = {
    b"format.sample_format": _WORDS,
    b"format.rate": _NUMBER,
    b"format.channels": _NUMBER,
    b"format.channel_map": _WORDS,
}


class NotPulseError(ValueError):
    """What came is not this protocol, or was not agreed on: the connection is to end."""


class RefusedError(Exception):
    """A command that was understood and may not pass: it is to be denied."""


class _Values:
    """What is still to be read of a command. Raises NotPulseError for what is not there."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def take(self, size: int) -> bytes:
        taken = self._content[self._at : self._at + size]
        if len(taken) != size:
            raise NotPulseError
        self._at += size
        return taken

    def expect(self, *kinds: bytes) -> bytes:
        kind = self.take(1)
        if kind not in kinds:
            raise NotPulseError
        return kind

    def number(self) -> int:
        self.expect(b"L")
        return int.from_bytes(self.take(4), "big")

    def text(self) -> bytes | None:
        """A string without its end; None for one that is not given."""
        if self.expect(b"t", b"N") == b"N":
            return None
        end = self._content.find(b"\0", self._at, self._at + TEXT_MAX + 1)
        if end < 0:
            raise NotPulseError
        return self.take(end + 1 - self._at)[:-1]

    def blob(self, size: int) -> bytes:
        self.expect(b"x")
        if int.from_bytes(self.take(4), "big") != size:
            raise NotPulseError
        return self.take(size)

    def properties(self) -> dict[bytes, bytes]:
        self.expect(b"P")
        found = {}
        while (key := self.text()) is not None:
            found[key] = self.blob(self.number())
        return found

    def end(self) -> None:
        if self._at != len(self._content):
            raise NotPulseError


_Field = Callable[[_Values], bytes]  # reads one value and gives what is written in its place


def _properties(pairs: dict[bytes, bytes]) -> bytes:
    """A property list; values are given with their last zero, as PulseAudio has them."""
    texts = (
        b"t" + key + b"\0" + struct.pack(">cIcI", b"L", len(value), b"x", len(value)) + value
        for key, value in pairs.items()
    )
    return b"P" + b"".join(texts) + b"N"


_CLIENT = {b"application.name": b"torbox\0"}
# By module-stream-restore.id the server keeps volumes and devices: apart from those of the user's programs.
_PLAYBACK = _properties(
    {
        **_CLIENT,
        b"media.name": b"sandbox\0",
        b"module-stream-restore.id": b"sink-input-by-application-name:torbox\0",
    }
)
_RECORD = _properties(
    {
        **_CLIENT,
        b"media.name": b"sandbox\0",
        b"module-stream-restore.id": b"source-output-by-application-name:torbox\0",
    }
)


def _number(values: _Values) -> bytes:
    return struct.pack(">cI", b"L", values.number())


def _flag(values: _Values) -> bytes:
    return values.expect(b"0", b"1")


def _time(values: _Values) -> bytes:
    return values.expect(b"T") + values.take(8)


def _sample_spec(values: _Values) -> bytes:
    return values.expect(b"a") + values.take(6)


def _channels(values: _Values, kind: bytes) -> int:
    values.expect(kind)
    many = values.take(1)[0]
    if many > _CHANNELS_MAX:
        raise NotPulseError
    return many


def _channel_map(values: _Values) -> bytes:
    many = _channels(values, b"m")
    return b"m" + bytes((many,)) + values.take(many)


def _volumes(values: _Values) -> bytes:
    many = _channels(values, b"v")
    loud = struct.unpack(f">{many}I", values.take(4 * many))
    return struct.pack(f">cB{many}I", b"v", many, *(min(each, VOLUME_MAX) for each in loud))


def _device_name(values: _Values) -> bytes:
    """Of a device that is asked about."""
    name = values.text()
    if name is None:
        return b"N"
    if not _DEVICE.fullmatch(name):
        raise RefusedError
    return b"t" + name + b"\0"


def _formats(values: _Values) -> bytes:
    """Those of the formats that are PCM; RefusedError if there are others alone."""
    values.expect(b"B")
    offered = values.take(1)[0]
    if offered > FORMATS_MAX:
        raise NotPulseError
    kept = []
    for _ in range(offered):
        values.expect(b"f")
        values.expect(b"B")
        encoding, described = values.take(1)[0], values.properties()
        if encoding != _PCM:
            continue
        known = {key: described[key] for key in _PCM_PROPERTIES if key in described}
        if not all(_PCM_PROPERTIES[key].fullmatch(value) for key, value in known.items()):
            raise RefusedError
        kept.append(b"fB" + bytes((encoding,)) + _properties(known))
    if offered and not kept:
        raise RefusedError
    return b"B" + bytes((len(kept),)) + b"".join(kept)


def _version(values: _Values) -> bytes:
    return struct.pack(">cI", b"L", agreed_version(values.number()))


def _cookie(values: _Values) -> bytes:
    return struct.pack(">cI", b"x", _COOKIE) + values.blob(_COOKIE)


def _instead_of(read: Callable[[_Values], object], written: bytes) -> _Field:
    """A value that is read, and replaced whatever it is."""

    def field(values: _Values) -> bytes:
        read(values)
        return written

    return field


def _its_properties(written: bytes) -> _Field:
    return _instead_of(_Values.properties, written)


_NO_INDEX = _instead_of(_Values.number, _INVALID)
_NO_NAME = _instead_of(_Values.text, b"N")
_NO = _instead_of(_flag, b"0")
_MERGED = _instead_of(_Values.number, struct.pack(">cI", b"L", _MERGE))  # so that nothing is taken away
_TITLE = _instead_of(_Values.text, b"tsandbox\0")
_STREAM, _DEVICE_ASKED = (_number,), (_number, _device_name)
_BEGIN = (_sample_spec, _channel_map, _NO_INDEX, _NO_NAME)

PLAYING: dict[int, tuple[_Field, ...]] = {
    3: (*_BEGIN, _number, _flag, *[_number] * 4, _volumes,  # CREATE_PLAYBACK_STREAM
        *[_flag] * 9, _its_properties(_PLAYBACK), *[_flag] * 6, _NO, _formats),  # no passthrough
    4: _STREAM,  # DELETE_PLAYBACK_STREAM
    8: (_version, _cookie),  # AUTH
    9: (_its_properties(_properties(_CLIENT)),),  # SET_CLIENT_NAME
    10: (_device_name,),  # LOOKUP_SINK
    12: _STREAM,  # DRAIN_PLAYBACK_STREAM
    14: (_number, _time),  # GET_PLAYBACK_LATENCY
    20: (),  # GET_SERVER_INFO
    21: _DEVICE_ASKED, 22: (),  # GET_SINK_INFO and _LIST
    35: (_number,),  # SUBSCRIBE
    37: (_number, _volumes), 69: (_number, _flag),  # SET_SINK_INPUT_VOLUME and _MUTE
    41: (_number, _flag), 42: _STREAM, 43: _STREAM, 60: _STREAM,  # CORK, FLUSH, TRIGGER, PREBUF
    46: (_number, _TITLE),  # SET_PLAYBACK_STREAM_NAME
    72: (*[_number] * 5, _flag, _flag),  # SET_PLAYBACK_STREAM_BUFFER_ATTR
    74: (_number, _number),  # UPDATE_PLAYBACK_STREAM_SAMPLE_RATE
    81: (_number, _MERGED, _its_properties(_PLAYBACK)),  # UPDATE_PLAYBACK_STREAM_PROPLIST
    82: (_MERGED, _its_properties(_properties(_CLIENT))),  # UPDATE_CLIENT_PROPLIST
}  # fmt: skip
RECORDING: dict[int, tuple[_Field, ...]] = {
    5: (*_BEGIN, _number, _flag, _number, *[_flag] * 9,  # CREATE_RECORD_STREAM
        _its_properties(_RECORD), _NO_INDEX, *[_flag] * 3, _formats, _volumes, *[_flag] * 4, _NO),
    6: _STREAM,  # DELETE_RECORD_STREAM
    11: (_device_name,),  # LOOKUP_SOURCE
    23: _DEVICE_ASKED, 24: (),  # GET_SOURCE_INFO and _LIST
    47: (_number, _TITLE),  # SET_RECORD_STREAM_NAME
    57: (_number, _time), 58: (_number, _flag), 59: _STREAM,  # GET_RECORD_LATENCY, CORK, FLUSH
    73: (*[_number] * 3, _flag, _flag),  # SET_RECORD_STREAM_BUFFER_ATTR
    75: (_number, _number),  # UPDATE_RECORD_STREAM_SAMPLE_RATE
    80: (_number, _MERGED, _its_properties(_RECORD)),  # UPDATE_RECORD_STREAM_PROPLIST
}  # fmt: skip


def rebuilt(form: tuple[_Field, ...], content: bytes) -> bytes:
    """The values behind a command's number and tag, written anew. Raises NotPulseError and RefusedError."""
    values = _Values(content)
    written = b"".join([field(values) for field in form])
    values.end()
    return written


def agreed_version(offered: int) -> int:
    """Without shared memory, and none whose forms are not known. Raises NotPulseError."""
    version = offered & VERSION
    if version < VERSION_MIN:
        raise NotPulseError
    return min(version, VERSION_MAX)
