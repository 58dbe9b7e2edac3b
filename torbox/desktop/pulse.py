# SPDX-License-Identifier: GPL-3.0-or-later
"""What of PulseAudio's native protocol may pass: playing, and recording if the profile says so.

A packet is a descriptor of five 32-bit numbers (length, channel, offset high and low, flags) and `length`
bytes. Channel 0xffffffff carries commands: tagged values, the first two of them the command's number and a
tag by which it is answered (pulsecore/pstream.c, native-common.h, tagstruct.c). pipewire-pulse does the same.

The server would do for its user whatever it is told, such as load a module that sends all sound to an address
on the network, past Tor, or one that listens there. So commands pass by a list, and others are answered with
"access denied" in the server's stead; so are those for the volume of a stream that is not the client's own,
and for samples, which would stay in the server when the sandbox is gone. Shared memory is struck from what
the two agree on, so that all of it comes this way. What the server says passes, but for the names of the user
and the host, by which it introduces itself; a denial goes between two of its packets.
"""

from __future__ import annotations

import struct
from collections import Counter

_DESCRIPTOR = struct.Struct(">5I")
_COMMANDS = 0xFFFFFFFF  # the channel
_COMMAND_MAX = 64 << 10  # bytes; a command with all its properties has some hundred
_DATA_MAX = 16 << 20  # FRAME_SIZE_MAX_ALLOW of pstream.c
_SHARED_MEMORY = 0xFF000000  # flags of packets that only point to it; the seek mode is in the lowest byte
_VERSION = 0x0000FFFF  # of AUTH's version; above it are the offers of shared memory
_ERROR, _REPLY, _CREATE_STREAM, _AUTH, _GET_SERVER_INFO = 0, 2, 3, 8, 20
_VOLUMES = (37, 69)  # SET_SINK_INPUT_VOLUME and _MUTE, of a stream by its number
_ACCESS_DENIED = 1
_ASKED_MAX = 1024  # questions to the server that it has not answered yet
_STREAMS_MAX = 1024  # of a client that are remembered as its own
_NAMES = (b"user", b"host")  # the user's and the host's, as everybody has them inside

_PLAYING = frozenset((
    _CREATE_STREAM, 4, _AUTH, 9,  # and DELETE_PLAYBACK_STREAM, SET_CLIENT_NAME
    10, 12, 14, 18,  # LOOKUP_SINK, DRAIN, GET_PLAYBACK_LATENCY, PLAY_SAMPLE
    _GET_SERVER_INFO, 21, 22, 35,  # GET_SINK_INFO and _LIST, SUBSCRIBE
    41, 42, 43, 46, 60, *_VOLUMES,  # CORK, FLUSH, TRIGGER, SET_PLAYBACK_STREAM_NAME, PREBUF
    72, 74, 81, 82, 84, 85,  # buffer attributes, sample rate, properties
))  # fmt: skip
_RECORDING = frozenset((
    5, 6, 11, 23, 24, 47, 57, 58, 59, 73, 75, 80, 83,  # the same of record streams, and of sources
))  # fmt: skip


class NotPulseError(ValueError):
    """What came is not this protocol, or was not agreed on: the connection is to end."""


class Filter:
    """One client's way to the server. Bytes go in as they come; what may pass comes out."""

    def __init__(self, *, may_record: bool) -> None:
        self._allowed = _PLAYING | _RECORDING if may_record else _PLAYING
        self._waiting = bytearray()
        self._passing = 0  # bytes of a packet of sound that are still to come
        self._answer = bytearray()  # waits until the server's packet has passed
        self._answer_passing = 0
        self._answers = bytearray()  # denials that wait for that
        # By tag, what the server has not answered: questions for names, and for new streams. A client may use
        # a tag twice, so that one answer must not be taken for the other.
        self._asked: Counter[int] = Counter()
        self._creating: Counter[int] = Counter()
        self._streams: dict[int, None] = {}  # the client's own, by their number in the server

    def feed(self, content: bytes) -> tuple[bytes, bytes]:
        """What goes on to the server, and what goes back to the client. Raises NotPulseError."""
        on = bytearray()
        waiting = self._waiting
        waiting += content
        while waiting:
            if self._passing:
                on += waiting[: self._passing]
                taken = min(self._passing, len(waiting))
                self._passing -= taken
                del waiting[:taken]
                continue
            if len(waiting) < _DESCRIPTOR.size:
                break
            length, channel, _, _, flags = _DESCRIPTOR.unpack_from(waiting)
            if flags & _SHARED_MEMORY or length > (_COMMAND_MAX if channel == _COMMANDS else _DATA_MAX):
                raise NotPulseError
            if channel != _COMMANDS:
                self._passing = _DESCRIPTOR.size + length
                continue
            end = _DESCRIPTOR.size + length
            if len(waiting) < end:
                break
            packet = bytes(waiting[:end])
            del waiting[:end]
            command, tag = _head(packet)
            if command not in self._allowed or (command in _VOLUMES and not self._is_own(packet)):
                self._answers += _denial(tag)
            elif command == _AUTH:
                on += _without_shared_memory(packet)
            else:
                if command == _GET_SERVER_INFO:
                    self._asked[tag] += 1
                elif command == _CREATE_STREAM:
                    self._creating[tag] += 1
                on += packet
        if self._asked.total() + self._creating.total() > _ASKED_MAX or len(self._answers) > _COMMAND_MAX:
            raise NotPulseError
        return bytes(on), self._between_packets()

    def reply(self, content: bytes) -> bytes:
        """What the client is to hear of what the server says. Raises NotPulseError."""
        back, waiting = bytearray(), self._answer
        waiting += content
        while waiting:
            if self._answer_passing:
                taken = min(self._answer_passing, len(waiting))
                back += waiting[:taken]
                self._answer_passing -= taken
                del waiting[:taken]
                back += self._between_packets()
                continue
            if len(waiting) < _DESCRIPTOR.size:
                break
            length, channel, *_ = _DESCRIPTOR.unpack_from(waiting)
            end = _DESCRIPTOR.size + length
            if channel != _COMMANDS or not (self._asked or self._creating) or length > _COMMAND_MAX:
                self._answer_passing = end
                continue
            if len(waiting) < end:
                break
            command, tag = _head(bytes(waiting[:end]))
            if tag in self._asked and command == _REPLY:
                back += _with_everybodys_names(bytes(waiting[:end]))
                _count_down(self._asked, tag)  # and not of an error, which may be another's answer
            else:
                back += waiting[:end]
                if tag in self._creating:
                    self._note_stream(bytes(waiting[:end]), is_reply=command == _REPLY)
                    _count_down(self._creating, tag)
            del waiting[:end]
        return bytes(back)

    def _is_own(self, packet: bytes) -> bool:
        found = _numbers(packet, 1)
        return found is not None and found[0] in self._streams

    def _note_stream(self, answer: bytes, *, is_reply: bool) -> None:
        """CREATE_PLAYBACK_STREAM's reply begins with the channel and the stream's number."""
        found = _numbers(answer, 2)
        if is_reply and found is not None:
            self._streams[found[1]] = None
            if len(self._streams) > _STREAMS_MAX:
                del self._streams[next(iter(self._streams))]

    def _between_packets(self) -> bytes:
        """The denials, if none of the server's packets is on its way."""
        if self._answer_passing:
            return b""
        answers = bytes(self._answers)
        self._answers.clear()
        return answers


def _head(packet: bytes) -> tuple[int, int]:
    """A command's number and tag, each a value of the kind "L"."""
    try:
        kind, command, other, tag = struct.unpack_from(">cIcI", packet, _DESCRIPTOR.size)
    except struct.error:
        raise NotPulseError from None
    if kind != b"L" or other != b"L":
        raise NotPulseError
    return command, tag


def _numbers(packet: bytes, many: int) -> tuple[int, ...] | None:
    """The first values of a command, if they are of the kind "L"."""
    at = _DESCRIPTOR.size + 10  # behind the number and the tag
    try:
        found = struct.unpack_from(">" + "cI" * many, packet, at)
    except struct.error:
        return None
    return found[1::2] if set(found[::2]) == {b"L"} else None


def _count_down(counter: Counter[int], tag: int) -> None:
    counter[tag] -= 1
    if not counter[tag]:
        del counter[tag]


def _denial(tag: int) -> bytes:
    body = struct.pack(">cIcIcI", b"L", _ERROR, b"L", tag, b"L", _ACCESS_DENIED)
    return _DESCRIPTOR.pack(len(body), _COMMANDS, 0, 0, 0) + body


def _with_everybodys_names(packet: bytes) -> bytes:
    """GET_SERVER_INFO's reply: the package's name and version, the user's and the host's name, and more."""
    at, texts = _DESCRIPTOR.size + 10, []
    for _ in range(4):
        end = (
            packet.find(b"\0", at)
            if packet[at : at + 1] == b"t"
            else at
            if packet[at : at + 1] == b"N"
            else -1
        )
        if end < 0:
            raise NotPulseError
        texts.append(packet[at : end + 1])
        at = end + 1
    body = packet[_DESCRIPTOR.size : _DESCRIPTOR.size + 10] + texts[0] + texts[1]
    body += b"".join(b"t" + name + b"\0" for name in _NAMES) + packet[at:]
    return _DESCRIPTOR.pack(len(body), *_DESCRIPTOR.unpack_from(packet)[1:]) + body


def _without_shared_memory(packet: bytes) -> bytes:
    at = _DESCRIPTOR.size + 10  # behind the number and the tag
    try:
        kind, version = struct.unpack_from(">cI", packet, at)
    except struct.error:
        raise NotPulseError from None
    if kind != b"L":
        raise NotPulseError
    return packet[:at] + struct.pack(">cI", b"L", version & _VERSION) + packet[at + 5 :]
