# SPDX-License-Identifier: GPL-3.0-or-later
"""What of PulseAudio's native protocol may pass: playing, and recording if the profile says so.

A packet is a descriptor of five 32-bit numbers (length, channel, offset high and low, flags) and `length`
bytes. Channel 0xffffffff carries commands: tagged values, the first two of them the command's number and a
tag by which it is answered (pulsecore/pstream.c, native-common.h, tagstruct.c). pipewire-pulse does the same.

The server would do for its user whatever it is told, such as load a module that sends all sound to an address
on the network, past Tor, or one that listens there; and it does the same for properties of a stream. So
commands pass by a list, and written anew (pulse_commands.py); others are answered with "access denied" in the
server's stead. So are those for the volume of a stream that is not the client's own, and those for samples,
which would stay in the server when the sandbox is gone. Shared memory is struck from what the two agree on,
so that all of it comes this way. What the server says passes, but for the names of the user and the host, by
which it introduces itself; a denial goes between two of its packets.

What an answer is to is known by its tag alone, so a tag that waits for its answer is not used again.
"""

from __future__ import annotations

import struct

from torbox.desktop.pulse_commands import (
    PLAYING,
    RECORDING,
    VERSION,
    VERSION_MAX,
    NotPulseError,
    RefusedError,
    rebuilt,
)

CONNECTIONS_MAX = 16  # of a sandbox at a time; PulseAudio has 64 for all of the session (MAX_CONNECTIONS)
_DESCRIPTOR = struct.Struct(">5I")
_HEAD = struct.Struct(">cIcI")  # a command's number and tag
_COMMANDS = 0xFFFFFFFF  # the channel
_COMMAND_MAX = 64 << 10  # bytes; a command with all its properties has some hundred
_DATA_MAX = 16 << 20  # FRAME_SIZE_MAX_ALLOW of pstream.c
_SHARED_MEMORY = 0xFF000000  # flags of packets that only point to it; the seek mode is in the lowest byte
_ERROR, _REPLY, _CREATE_STREAM, _AUTH, _GET_SERVER_INFO = 0, 2, 3, 8, 20
_VOLUMES = (37, 69)  # SET_SINK_INPUT_VOLUME and _MUTE, of a stream by its number
_ACCESS_DENIED = 1
UNANSWERED_MAX = 1024  # commands that the server has not answered yet
_STREAMS_MAX = 1024  # of a client that are remembered as its own
_NAMES = (b"user", b"host")  # the user's and the host's, as everybody has them inside


class Filter:
    """One client's way to the server. Bytes go in as they come; what may pass comes out."""

    def __init__(self, *, may_record: bool) -> None:
        self._forms = PLAYING | RECORDING if may_record else PLAYING
        self._waiting = bytearray()
        self._passing = 0  # bytes of a packet of sound that are still to come
        self._answer = bytearray()  # waits until the server's packet has passed
        self._answer_passing = 0
        self._answers = bytearray()  # denials that wait for that
        self._unanswered: dict[int, int] = {}  # the commands that the server has not answered, by their tag
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
            said = bytes(waiting[_DESCRIPTOR.size : end])
            del waiting[:end]
            on += self._passed(said)
        if len(self._unanswered) > UNANSWERED_MAX or len(self._answers) > _COMMAND_MAX:
            raise NotPulseError
        return bytes(on), self._between_packets()

    def _passed(self, said: bytes) -> bytes:
        """A command as it goes on; nothing if it is denied. Raises NotPulseError."""
        command, tag = _head(said)
        if tag in self._unanswered:
            raise NotPulseError
        try:
            if command not in self._forms:
                raise RefusedError
            values = rebuilt(self._forms[command], said[_HEAD.size :])
            if command in _VOLUMES and _number(values, 0) not in self._streams:
                raise RefusedError
        except RefusedError:
            self._answers += _command(_ERROR, tag, struct.pack(">cI", b"L", _ACCESS_DENIED))
            return b""
        self._unanswered[tag] = command
        return _command(command, tag, values)

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
            if channel != _COMMANDS:
                self._answer_passing = end
                continue
            if len(waiting) < min(end, _DESCRIPTOR.size + _HEAD.size):
                break
            command, tag = _head(bytes(waiting[_DESCRIPTOR.size : end]))
            asked = self._unanswered.get(tag, 0) if command in (_ERROR, _REPLY) else 0
            if command != _REPLY or asked not in (_AUTH, _CREATE_STREAM, _GET_SERVER_INFO):
                if asked:
                    del self._unanswered[tag]
                self._answer_passing = end
                continue
            if length > _COMMAND_MAX:
                raise NotPulseError
            if len(waiting) < end:
                break
            values = bytes(waiting[_DESCRIPTOR.size + _HEAD.size : end])
            del waiting[:end], self._unanswered[tag]
            if asked == _CREATE_STREAM:
                self._note_stream(values)
            elif asked == _AUTH:
                values = _with_a_known_version(values)
            else:
                values = _with_everybodys_names(values)
            back += _command(_REPLY, tag, values)
        return bytes(back)

    def _note_stream(self, values: bytes) -> None:
        """CREATE_PLAYBACK_STREAM's reply begins with the channel and the stream's number."""
        self._streams[_number(values, 1)] = None
        if len(self._streams) > _STREAMS_MAX:
            del self._streams[next(iter(self._streams))]

    def _between_packets(self) -> bytes:
        """The denials, if none of the server's packets is on its way."""
        if self._answer_passing:
            return b""
        answers = bytes(self._answers)
        self._answers.clear()
        return answers


def _head(said: bytes) -> tuple[int, int]:
    """A command's number and tag, each a value of the kind "L"."""
    try:
        kind, command, other, tag = _HEAD.unpack_from(said)
    except struct.error:
        raise NotPulseError from None
    if kind != b"L" or other != b"L":
        raise NotPulseError
    return command, tag


def _number(values: bytes, place: int) -> int:
    """The value there, if it and those before are of the kind "L"."""
    if values[: 5 * place + 1 : 5] != b"L" * (place + 1) or len(values) < 5 * (place + 1):
        raise NotPulseError
    return int.from_bytes(values[5 * place + 1 : 5 * place + 5], "big")


def _command(number: int, tag: int, values: bytes) -> bytes:
    body = _HEAD.pack(b"L", number, b"L", tag) + values
    return _DESCRIPTOR.pack(len(body), _COMMANDS, 0, 0, 0) + body


def _with_a_known_version(values: bytes) -> bytes:
    """AUTH's reply: the server's version, whose forms the client is to use, without shared memory."""
    return struct.pack(">cI", b"L", min(_number(values, 0) & VERSION, VERSION_MAX)) + values[5:]


def _with_everybodys_names(values: bytes) -> bytes:
    """GET_SERVER_INFO's reply: the package's name and version, the user's and the host's name, and more."""
    at, texts = 0, []
    for _ in range(4):
        kind = values[at : at + 1]
        end = values.find(b"\0", at) if kind == b"t" else at if kind == b"N" else -1
        if end < 0:
            raise NotPulseError
        texts.append(values[at : end + 1])
        at = end + 1
    return texts[0] + texts[1] + b"".join(b"t" + name + b"\0" for name in _NAMES) + values[at:]
