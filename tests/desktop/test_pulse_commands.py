# SPDX-License-Identifier: GPL-3.0-or-later
"""How PulseAudio's commands are written anew: nothing that was not understood goes on."""

from __future__ import annotations

import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torbox.desktop import pulse_commands
from torbox.desktop.pulse_commands import PLAYING, RECORDING, NotPulseError, RefusedError, rebuilt

NONE = 0xFFFFFFFF
FORMS = PLAYING | RECORDING
PCM = {
    b"format.sample_format": b'"s16le"\0',
    b"format.rate": b"44100\0",
    b"format.channels": b"2\0",
    b"format.channel_map": b'"front-left,front-right"\0',
}


def number(value: int) -> bytes:
    return struct.pack(">cI", b"L", value)


def text(value: bytes) -> bytes:
    return b"t" + value + b"\0"


def volumes(*values: int) -> bytes:
    return struct.pack(f">cB{len(values)}I", b"v", len(values), *values)


def properties(pairs: dict[bytes, bytes]) -> bytes:
    one = (
        text(key) + number(len(value)) + struct.pack(">cI", b"x", len(value)) + value
        for key, value in pairs.items()
    )
    return b"P" + b"".join(one) + b"N"


def formats(*described: tuple[int, dict[bytes, bytes]]) -> bytes:
    one = (b"fB" + bytes((encoding,)) + properties(pairs) for encoding, pairs in described)
    return b"B" + bytes((len(described),)) + b"".join(one)


def beginning(index: int, name: bytes) -> bytes:
    return b"a\3\2" + struct.pack(">I", 44100) + b"m\2\1\2" + number(index) + name


def playback(
    index: int = NONE,
    name: bytes = b"N",
    loud: bytes = volumes(0x10000, 0x8000),
    listed: bytes = properties({}),
    offered: bytes = formats(),
    passthrough: bytes = b"0",
) -> bytes:
    """CREATE_PLAYBACK_STREAM's values, as libpulse has them."""
    times = b"".join(number(each) for each in (NONE, NONE, NONE, 0))
    before = beginning(index, name) + number(4 << 20) + b"0" + times
    return before + loud + b"0" * 9 + listed + b"1" + b"0" * 5 + passthrough + offered


def record(
    index: int = NONE,
    name: bytes = b"N",
    listed: bytes = properties({}),
    direct: int = NONE,
    loud: bytes = volumes(0x10000, 0x8000),
) -> bytes:
    before = beginning(index, name) + number(4 << 20) + b"0" + number(NONE) + b"0" * 9
    return before + listed + number(direct) + b"000" + formats() + loud + b"0" * 5


EVIL = properties(
    {
        b"filter.apply": b"ladspa-sink\0",
        b"filter.apply.ladspa-sink.parameters": b"plugin=/tmp/evil.so\0",
        b"module-stream-restore.id": b"sink-input-by-application-name:Firefox\0",
        b"application.name": b"Firefox\0",
        b"remote.name": b"elsewhere\0",
        b"target.object": b"alsa\0",
        b"application.icon": b"\x89PNG\0\0",
    }
)
OWN = {b"application.name", b"media.name", b"module-stream-restore.id"}


def keys(written: bytes) -> set[bytes]:
    return set(re.findall(rb"t([a-z.-]+)\0L....x", written, re.DOTALL))


@pytest.mark.parametrize(
    ("which", "rest", "passed"),
    [
        (3, playback(listed=EVIL), OWN), (5, record(listed=EVIL), OWN), (9, EVIL, {b"application.name"}),
        (80, number(0) + number(1) + EVIL, OWN), (81, number(0) + number(1) + EVIL, OWN),
        (82, number(0) + EVIL, {b"application.name"}),
    ],
)  # fmt: skip
def test_of_a_property_list_nothing_passes(which: int, rest: bytes, passed: set[bytes]) -> None:
    written = rebuilt(FORMS[which], rest)
    assert keys(rest) == keys(EVIL) > {b"filter.apply"}
    assert keys(written) == passed
    for value in (b"ladspa", b"evil", b"Firefox", b"elsewhere", b"PNG"):
        assert value not in written
    assert rebuilt(FORMS[which], written) == written


def test_updates_of_properties_take_none_away() -> None:
    for mode in (0, 1, 2, 77):
        assert rebuilt(FORMS[82], number(mode) + EVIL)[:5] == number(1)
        assert rebuilt(FORMS[81], number(3) + number(mode) + EVIL)[:10] == number(3) + number(1)


def test_a_streams_device_and_title_are_not_the_programs_choice() -> None:
    plain = rebuilt(FORMS[3], playback())
    assert rebuilt(FORMS[3], playback(index=4)) == plain
    assert rebuilt(FORMS[3], playback(name=text(b"tunnel"))) == plain
    assert rebuilt(FORMS[3], playback(passthrough=b"1")) == plain
    assert rebuilt(FORMS[5], record(index=3, name=text(b"x.monitor"), direct=5)) == rebuilt(
        FORMS[5], record()
    )
    assert rebuilt(FORMS[46], number(3) + text(b"Skype")) == number(3) + text(b"sandbox")


def test_nobody_is_louder_than_100_percent() -> None:
    loud, most = volumes(0x30000, 0x8000), volumes(0x10000, 0x8000)
    assert rebuilt(FORMS[37], number(1) + loud) == number(1) + most
    assert rebuilt(FORMS[3], playback(loud=loud)) == rebuilt(FORMS[3], playback(loud=most))
    assert rebuilt(FORMS[5], record(loud=loud)) == rebuilt(FORMS[5], record(loud=most))


def test_pcm_alone_is_offered_with_what_describes_it() -> None:
    more = {**PCM, b"filter.apply": b"x\0"}
    written = rebuilt(FORMS[3], playback(offered=formats((3, {}), (1, more))))
    assert written.endswith(formats((1, PCM)))
    assert b"filter" not in written
    for offered in (
        formats((3, {})),
        formats((1, {b"format.rate": b'{"min": 1}\0'})),
        formats((1, {b"format.sample_format": b"[" * 900 + b"\0"})),
        formats((1, {b"format.channels": b"2"})),
    ):
        with pytest.raises(RefusedError):
            rebuilt(FORMS[3], playback(offered=offered))
    many = [(1, PCM)] * (pulse_commands.FORMATS_MAX + 1)
    with pytest.raises(NotPulseError):
        rebuilt(FORMS[3], playback(offered=formats(*many)))


def test_a_device_is_asked_about_by_what_may_be_a_name() -> None:
    for name in (text(b"alsa_output.pci-0000_00_1f.3.analog-stereo"), text(b"@DEFAULT_SINK@"), b"N"):
        assert rebuilt(FORMS[21], number(NONE) + name) == number(NONE) + name
    for name in (b"a b", b"", b'{"x"}', b"x" * 129):
        with pytest.raises(RefusedError):
            rebuilt(FORMS[21], number(NONE) + text(name))


def test_a_text_is_bounded() -> None:
    longest = pulse_commands.TEXT_MAX
    assert rebuilt(FORMS[46], number(0) + text(b"x" * longest)) == number(0) + text(b"sandbox")
    with pytest.raises(NotPulseError):
        rebuilt(FORMS[46], number(0) + text(b"x" * (longest + 1)))


@pytest.mark.parametrize(
    "rest",
    [
        playback() + b"0", playback()[:-1], playback(listed=b"P"), playback(listed=b"Ptkey\0N"),
        playback(listed=b"P" + text(b"k") + number(9) + struct.pack(">cI", b"x", 3) + b"abcN"),
        playback(listed=b"P" + text(b"k") + number(9) + struct.pack(">cI", b"x", 1 << 31) + b"abcN"),
        playback(loud=volumes(*[1] * 33)), playback(name=b"L"), playback(passthrough=b"2"),
        playback(name=b"tno end"), b"",
    ],
)  # fmt: skip
def test_what_is_not_wholly_understood_ends_the_connection(rest: bytes) -> None:
    with pytest.raises(NotPulseError):
        rebuilt(FORMS[3], rest)


VALUE = st.one_of(
    st.builds(number, st.integers(0, NONE)),
    st.sampled_from([b"0", b"1", b"N", b"T" + bytes(8), b"B\1", EVIL, formats((1, PCM)), volumes(1, NONE)]),
    st.binary(max_size=12).map(lambda found: text(found.replace(b"\0", b""))),
    st.binary(max_size=6),
)


@given(st.sampled_from(sorted(FORMS)), st.lists(VALUE, max_size=12).map(b"".join))
def test_whatever_is_said_what_goes_on_is_of_the_form_and_stays_as_it_is(which: int, rest: bytes) -> None:
    try:
        written = rebuilt(FORMS[which], rest)
    except (NotPulseError, RefusedError):
        return
    assert keys(written) <= OWN | set(PCM)
    assert rebuilt(FORMS[which], written) == written


@given(st.data())
def test_a_creation_that_is_changed_anywhere_brings_nothing_of_its_properties_in(data: st.DataObject) -> None:
    said = bytearray(playback(listed=EVIL, offered=formats((1, PCM), (4, {}))))
    for _ in range(data.draw(st.integers(1, 3))):
        said[data.draw(st.integers(0, len(said) - 1))] = data.draw(st.integers(0, 255))
    try:
        written = rebuilt(FORMS[3], bytes(said))
    except (NotPulseError, RefusedError):
        return
    assert keys(written) <= OWN | set(PCM)
    assert b"ladspa" not in written
    assert rebuilt(FORMS[3], written) == written
