# SPDX-License-Identifier: GPL-3.0-or-later
"""What of PulseAudio's protocol passes, packet by packet."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.desktop.test_pulse_commands import number, playback, properties, text, volumes
from torbox.desktop import pulse
from torbox.desktop.pulse import Filter
from torbox.desktop.pulse_commands import NotPulseError

COMMANDS = 0xFFFFFFFF
CREATE_PLAYBACK, AUTH, SET_CLIENT_NAME, LOOKUP_SINK, GET_SERVER_INFO = 3, 8, 9, 10, 20
CORK, LOAD_MODULE, EXTENSION = 41, 51, 87


def packet(content: bytes, channel: int = COMMANDS, flags: int = 0) -> bytes:
    return struct.pack(">5I", len(content), channel, 0, 0, flags) + content


def command(which: int, tag: int = 7, rest: bytes = b"") -> bytes:
    return packet(struct.pack(">cIcI", b"L", which, b"L", tag) + rest)


def denial(tag: int) -> bytes:
    return packet(struct.pack(">cIcIcI", b"L", 0, b"L", tag, b"L", 1))


def cork(tag: int = 7) -> bytes:
    return command(CORK, tag, number(0) + b"1")


@pytest.mark.parametrize(
    ("which", "rest", "play", "record"),
    [
        (CORK, number(0) + b"1", True, True), (GET_SERVER_INFO, b"", True, True),
        (59, number(0), False, True), (24, b"", False, True), (LOAD_MODULE, b"", False, False),
        (52, b"", False, False), (EXTENSION, b"", False, False), (7, b"", False, False),
        (40, b"", False, False), (44, b"", False, False), (48, b"", False, False),
        (500, b"", False, False),
        (15, b"", False, False), (16, b"", False, False), (17, b"", False, False), (18, b"", False, False),
        (83, b"", False, False), (84, b"", False, False), (85, b"", False, False),
    ],
)  # fmt: skip
def test_a_command_passes_or_is_denied_in_the_servers_stead(
    which: int, rest: bytes, play: bool, record: bool
) -> None:
    for may_record, passes in ((False, play), (True, record)):
        said = command(which, tag=9, rest=rest)
        wanted = (said, b"") if passes else (b"", denial(9))
        assert Filter(may_record=may_record).feed(said) == wanted


def auth(version: int, tag: int = 7) -> bytes:
    return command(AUTH, tag, number(version) + struct.pack(">cI", b"x", 256) + bytes(256))


def test_shared_memory_is_struck_from_what_is_agreed_on_and_so_are_versions_that_are_not_known() -> None:
    for offered, agreed in ((0xC0000023, 35), (0x80000016, 22), (99, 35)):
        judge = Filter(may_record=False)
        assert judge.feed(auth(offered)) == (auth(agreed), b"")
        assert judge.reply(command(2, rest=number(offered))) == command(2, rest=number(agreed))


@pytest.mark.parametrize(
    "said",
    [
        packet(b"", channel=0, flags=0x80000000),  # a block of shared memory
        packet(b"", channel=0, flags=0x20000000),
        struct.pack(">5I", 1 << 20, COMMANDS, 0, 0, 0),
        struct.pack(">5I", 1 << 30, 0, 0, 0, 0),
        packet(b"L"), packet(b"x" * 10), command(AUTH), command(AUTH, rest=b"x1234"), auth(21),
        command(GET_SERVER_INFO, rest=b"more"), command(CORK), command(SET_CLIENT_NAME, rest=b"P"),
    ],
)  # fmt: skip
def test_what_was_not_agreed_on_ends_the_connection(said: bytes) -> None:
    with pytest.raises(NotPulseError):
        Filter(may_record=True).feed(said)


def info(tag: int, user: bytes, host: bytes) -> bytes:
    names = b"tpulseaudio\0t16.1\0" + user + host
    return command(2, tag, names + struct.pack(">cBBI", b"a", 3, 2, 44100) + b"tout\0N")


def test_the_names_of_user_and_host_are_everybodys() -> None:
    other = command(2, tag=3, rest=b"tvm\0")
    said = packet(b"sound", channel=1) + other + info(7, b"talice\0", b"N") + info(8, b"tx\0", b"ty\0")
    wanted = packet(b"sound", channel=1) + other + info(7, b"tuser\0", b"thost\0") + info(8, b"tx\0", b"ty\0")
    for step in (1, 7, len(said)):
        judge = Filter(may_record=False)
        judge.feed(command(GET_SERVER_INFO, tag=7))
        assert b"".join(judge.reply(said[at : at + step]) for at in range(0, len(said), step)) == wanted


@pytest.mark.parametrize("first", [GET_SERVER_INFO, CORK, CREATE_PLAYBACK])
@pytest.mark.parametrize("second", [GET_SERVER_INFO, CORK, CREATE_PLAYBACK, LOAD_MODULE])
def test_a_tag_is_not_used_again_before_it_is_answered(first: int, second: int) -> None:
    rest = {CORK: number(0) + b"1", CREATE_PLAYBACK: playback()}
    before, after = (command(which, 7, rest.get(which, b"")) for which in (first, second))
    judge = Filter(may_record=False)
    judge.feed(before)
    with pytest.raises(NotPulseError):
        judge.feed(after)
    judge = Filter(may_record=False)
    judge.feed(before)
    assert judge.reply(denial(7)) == denial(7)
    judge.reply(command(61, tag=7))  # REQUEST, which answers nothing
    judge.feed(after)


def test_only_a_clients_own_streams_are_made_louder() -> None:
    judge = Filter(may_record=True)
    judge.feed(command(CREATE_PLAYBACK, 3, playback()) + command(CREATE_PLAYBACK, 4, playback()))
    created = command(2, tag=3, rest=number(0) + number(55) + number(9))
    assert judge.reply(created + denial(4)) == created + denial(4)
    tag = 10
    for which, value in ((37, volumes(0x100)), (69, b"1")):
        for stream, passes in ((55, True), (0, False), (9, False), (56, False)):
            tag += 1
            said = command(which, tag, number(stream) + value)
            assert judge.feed(said) == ((said, b"") if passes else (b"", denial(tag)))
        with pytest.raises(NotPulseError):
            Filter(may_record=True).feed(command(which, tag=5))


def test_a_stream_whose_number_another_commands_answer_would_tell_is_not_ones_own() -> None:
    judge = Filter(may_record=False)
    judge.feed(command(72, 7, number(0) * 5 + b"00"))  # its answer has what the client chose
    with pytest.raises(NotPulseError):
        judge.feed(command(CREATE_PLAYBACK, 7, playback()))
    judge = Filter(may_record=False)
    judge.feed(command(72, 7, number(0) * 5 + b"00"))
    judge.reply(command(2, 7, number(4 << 20) + number(55)))
    assert judge.feed(command(69, 8, number(55) + b"1")) == (b"", denial(8))


def test_a_stream_is_created_with_nothing_that_a_module_acts_upon() -> None:
    evil = properties({b"filter.apply": b"ladspa-sink\0", b"media.role": b"phone\0"})
    on, back = Filter(may_record=False).feed(command(CREATE_PLAYBACK, rest=playback(listed=evil)))
    assert on
    assert b"filter" not in on
    assert b"phone" not in on
    assert back == b""
    assert struct.unpack_from(">I", on)[0] == len(on) - 20


def test_a_denial_goes_between_two_of_the_servers_packets() -> None:
    judge, sound = Filter(may_record=False), packet(b"sound", channel=1)
    assert judge.reply(sound[:22]) == sound[:22]
    assert judge.feed(command(LOAD_MODULE, tag=5)) == (b"", b"")
    assert judge.reply(sound[22:] + sound[:3]) == sound[22:] + denial(5)


def test_what_is_asked_for_and_not_answered_is_bounded() -> None:
    judge = Filter(may_record=False)
    judge.feed(b"".join(cork(tag) for tag in range(pulse.UNANSWERED_MAX)))
    with pytest.raises(NotPulseError):
        judge.feed(cork(5000))
    judge = Filter(may_record=False)
    judge.reply(packet(b"sound", channel=1)[:21])
    with pytest.raises(NotPulseError):
        judge.feed(command(LOAD_MODULE) * 3000)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80))
def test_sound_passes_whole_however_it_is_cut(cuts: list[int]) -> None:
    parts = [cork(3), packet(b"s" * 70, channel=1), command(LOAD_MODULE), packet(b"", channel=1)]
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
        judge.feed(command(GET_SERVER_INFO) + auth(35, 8) + command(LOOKUP_SINK, 9, text(b"out")))
        try:
            getattr(judge, direction)(said)
        except NotPulseError:
            pass
