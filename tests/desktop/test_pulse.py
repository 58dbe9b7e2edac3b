# SPDX-License-Identifier: GPL-3.0-or-later
"""What of PulseAudio's protocol passes, packet by packet."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torbox.desktop.pulse import Filter, NotPulseError

COMMANDS = 0xFFFFFFFF
CREATE_PLAYBACK, CREATE_RECORD, AUTH, LOOKUP_SINK, GET_SERVER_INFO = 3, 5, 8, 10, 20
LOAD_MODULE, EXTENSION = 51, 87


def packet(content: bytes, channel: int = COMMANDS, flags: int = 0) -> bytes:
    return struct.pack(">5I", len(content), channel, 0, 0, flags) + content


def command(number: int, tag: int = 7, rest: bytes = b"") -> bytes:
    return packet(struct.pack(">cIcI", b"L", number, b"L", tag) + rest)


def denial(tag: int) -> bytes:
    return packet(struct.pack(">cIcIcI", b"L", 0, b"L", tag, b"L", 1))


@pytest.mark.parametrize(
    ("number", "play", "record"),
    [
        (CREATE_PLAYBACK, True, True), (GET_SERVER_INFO, True, True), (CREATE_RECORD, False, True),
        (LOAD_MODULE, False, False), (52, False, False), (EXTENSION, False, False), (7, False, False),
        (40, False, False), (44, False, False), (48, False, False), (500, False, False),
    ],
)  # fmt: skip
def test_a_command_passes_or_is_denied_in_the_servers_stead(number: int, play: bool, record: bool) -> None:
    for may_record, passes in ((False, play), (True, record)):
        said = command(number, tag=9, rest=b"more")
        wanted = (said, b"") if passes else (b"", denial(9))
        assert Filter(may_record=may_record).feed(said) == wanted


def test_shared_memory_is_struck_from_what_is_offered() -> None:
    rest = struct.pack(">cI", b"x", 256) + bytes(256)
    said = command(AUTH, rest=struct.pack(">cI", b"L", 0xC0000023) + rest)
    on, back = Filter(may_record=False).feed(said)
    assert on == command(AUTH, rest=struct.pack(">cI", b"L", 0x23) + rest)
    assert back == b""


@pytest.mark.parametrize(
    "said",
    [
        packet(b"", channel=0, flags=0x80000000),  # a block of shared memory
        packet(b"", channel=0, flags=0x20000000),
        struct.pack(">5I", 1 << 20, COMMANDS, 0, 0, 0),
        struct.pack(">5I", 1 << 30, 0, 0, 0, 0),
        packet(b"L"), packet(b"x" * 10), command(AUTH), command(AUTH, rest=b"x1234"),
    ],
)  # fmt: skip
def test_what_was_not_agreed_on_ends_the_connection(said: bytes) -> None:
    with pytest.raises(NotPulseError):
        Filter(may_record=True).feed(said)


def info(tag: int, user: bytes, host: bytes) -> bytes:
    names = b"tpulseaudio\0t16.1\0" + user + host
    return command(2, tag, names + struct.pack(">cBBI", b"a", 3, 2, 44100) + b"tout\0N")


def test_the_names_of_user_and_host_are_everybodys() -> None:
    judge = Filter(may_record=False)
    other = command(2, tag=3, rest=b"tvm\0")
    judge.feed(command(GET_SERVER_INFO, tag=7))
    said = packet(b"sound", channel=1) + other + info(7, b"talice\0", b"N") + info(7, b"tx\0", b"ty\0")
    wanted = packet(b"sound", channel=1) + other + info(7, b"tuser\0", b"thost\0") + info(7, b"tx\0", b"ty\0")
    for step in (1, 7, len(said)):
        judge = Filter(may_record=False)
        judge.feed(command(GET_SERVER_INFO, tag=7))
        assert b"".join(judge.reply(said[at : at + step]) for at in range(0, len(said), step)) == wanted


def test_a_tag_that_is_used_twice_brings_no_name_in() -> None:
    real, wanted = info(7, b"talice\0", b"thome\0"), info(7, b"tuser\0", b"thost\0")
    judge = Filter(may_record=False)
    judge.feed(command(GET_SERVER_INFO, tag=7) * 2)
    assert judge.reply(real + real) == wanted + wanted
    judge.feed(command(LOOKUP_SINK, tag=7, rest=b"tno such\0") + command(GET_SERVER_INFO, tag=7))
    assert judge.reply(denial(7) + real) == denial(7) + wanted


def test_only_a_clients_own_streams_are_made_louder_and_nothing_is_left_in_the_server() -> None:
    judge = Filter(may_record=True)
    judge.feed(command(CREATE_PLAYBACK, tag=3) + command(CREATE_PLAYBACK, tag=4))
    created = command(2, tag=3, rest=struct.pack(">cIcIcI", b"L", 0, b"L", 55, b"L", 9))
    assert judge.reply(created + denial(4)) == created + denial(4)
    for number in (37, 69):
        for stream, passes in ((55, True), (0, False), (9, False), (56, False)):
            said = command(number, tag=5, rest=struct.pack(">cI", b"L", stream) + b"1")
            assert judge.feed(said) == ((said, b"") if passes else (b"", denial(5)))
        assert judge.feed(command(number, tag=5)) == (b"", denial(5))
    for upload in (15, 16, 17):
        assert judge.feed(command(upload, tag=6)) == (b"", denial(6))


def test_a_denial_goes_between_two_of_the_servers_packets() -> None:
    judge, sound = Filter(may_record=False), packet(b"sound", channel=1)
    assert judge.reply(sound[:22]) == sound[:22]
    assert judge.feed(command(LOAD_MODULE, tag=5)) == (b"", b"")
    assert judge.reply(sound[22:] + sound[:3]) == sound[22:] + denial(5)


def test_what_is_asked_for_and_not_answered_is_bounded() -> None:
    judge = Filter(may_record=False)
    with pytest.raises(NotPulseError):
        judge.feed(b"".join(command(GET_SERVER_INFO, tag) for tag in range(2000)))
    judge = Filter(may_record=False)
    judge.reply(packet(b"sound", channel=1)[:21])
    with pytest.raises(NotPulseError):
        judge.feed(command(LOAD_MODULE) * 3000)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80))
def test_sound_passes_whole_however_it_is_cut(cuts: list[int]) -> None:
    parts = [
        command(CREATE_PLAYBACK),
        packet(b"s" * 70, channel=1),
        command(LOAD_MODULE),
        packet(b"", channel=1),
    ]
    said, judge, on, back = b"".join(parts), Filter(may_record=False), b"", b""
    for size in [*cuts, len(said)]:
        more, answer = judge.feed(said[:size])
        said, on, back = said[size:], on + more, back + answer
    assert on == parts[0] + parts[1] + parts[3]
    assert back == denial(7)


@given(st.binary(max_size=200))
def test_nothing_but_its_own_error_comes_of_noise(said: bytes) -> None:
    for direction in ("feed", "reply"):
        judge = Filter(may_record=True)
        judge.feed(command(GET_SERVER_INFO))
        try:
            getattr(judge, direction)(said)
        except NotPulseError:
            pass
