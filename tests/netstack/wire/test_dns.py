# SPDX-License-Identifier: GPL-3.0-or-later
"""DNS messages, with dnspython's whole-message classes as the independent judge of what is emitted."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torbox.netstack.wire import dns as wire


def query(name: str = "example.com", rdtype: str = "A", **options: object) -> bytes:
    return dns.message.make_query(name, rdtype, **options).to_wire()  # type: ignore[arg-type]


def parse(message: bytes) -> wire.Query:
    parsed = wire.parse(message)
    assert parsed is not None
    return parsed


def test_a_query_is_parsed_in_the_case_it_was_asked() -> None:
    parsed = parse(query("ExAmPle.cOm", "AAAA", id=4711))
    assert parsed.id == 4711
    assert parsed.labels == (b"ExAmPle", b"cOm")
    assert (parsed.rdtype, parsed.rdclass, parsed.rcode) == (wire.AAAA, wire.IN, wire.NOERROR)
    assert not parsed.edns
    assert parsed.udp_size == 512


def test_edns_says_what_the_asker_can_take_within_bounds() -> None:
    assert parse(query(use_edns=0, payload=900)).udp_size == 900
    assert parse(query(use_edns=0, payload=100)).udp_size == 512
    assert parse(query(use_edns=0, payload=65000)).udp_size == 1232
    assert parse(query(use_edns=0, want_dnssec=True)).dnssec_ok


def test_another_edns_version_is_answered_badvers() -> None:
    parsed = parse(query(use_edns=1))
    assert parsed.rcode == wire.BADVERS
    answer = dns.message.from_wire(wire.emit(parsed, parsed.rcode, size=512))
    assert answer.rcode() == 16
    assert answer.edns == 0


@pytest.mark.parametrize("size", range(4))
def test_what_has_no_id_and_flags_is_dropped(size: int) -> None:
    assert wire.parse(query()[:size]) is None


def test_answers_are_never_answered() -> None:
    message = bytearray(query())
    message[2] |= 0x80
    assert wire.parse(bytes(message)) is None


def test_every_cut_off_query_is_a_format_error() -> None:
    whole = query("www.example.com", use_edns=0, payload=1232)
    for size in range(4, len(whole)):
        assert parse(whole[:size]).rcode == wire.FORMERR, size


@pytest.mark.parametrize(
    ("offset", "count"),
    [(4, 0), (4, 2), (6, 1), (8, 1), (10, 9)],
    ids=["no question", "two questions", "an answer", "an authority", "nine additional records"],
)
def test_other_counts_of_records_are_a_format_error(offset: int, count: int) -> None:
    message = bytearray(query())
    message[offset : offset + 2] = count.to_bytes(2, "big")
    assert parse(bytes(message)).rcode == wire.FORMERR


def test_additional_records_are_bounded() -> None:
    signature = bytes((0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0))  # of the root, and without data
    for count, rcode in ((wire.ADDITIONAL_MAX, wire.NOERROR), (wire.ADDITIONAL_MAX + 1, wire.FORMERR)):
        message = bytearray(query() + signature * count)
        message[10:12] = count.to_bytes(2, "big")
        assert parse(bytes(message)).rcode == rcode


def test_two_opt_records_and_an_opt_with_a_name_are_format_errors() -> None:
    plain = bytearray(query())
    opt = b"\0" + bytes((0, 41, 4, 208, 0, 0, 0, 0, 0, 0))
    plain[11] = 2
    assert parse(bytes(plain) + opt + opt).rcode == wire.FORMERR
    plain[11] = 1
    assert parse(bytes(plain) + b"\x01x" + opt).rcode == wire.FORMERR
    assert parse(bytes(plain) + opt).rcode == wire.NOERROR


def test_a_compression_loop_is_a_format_error() -> None:
    header = query()[:12]
    assert parse(header + b"\xc0\x0c\0\x01\0\x01").rcode == wire.FORMERR
    assert parse(header + b"\xc0\xff\0\x01\0\x01").rcode == wire.FORMERR
    assert parse(header + b"\x40x\0\0\x01\0\x01").rcode == wire.FORMERR


def test_owners_of_records_are_stepped_over_and_their_pointers_not_followed() -> None:
    message = bytearray(query())
    message[11] = 2
    rest = bytes((0, 250, 0, 255, 0, 0, 0, 0, 0, 0))
    for owner in (b"\xff\xff", b"\x01x\xc0\x0c", b"\x01x\0", (b"\x3f" + bytes(63)) * 3 + b"\0"):
        assert parse(bytes(message) + (owner + rest) * 2).rcode == wire.NOERROR
    for owner in (b"\x40x\0", b"\xbf\0", (b"\x3f" + bytes(63)) * 4 + b"\0", b"\xc0"):
        assert parse(bytes(message) + b"\0" + rest + owner + rest).rcode == wire.FORMERR


def test_records_of_other_types_need_no_module_of_their_own() -> None:
    message = bytearray(query())
    message[11] = 1
    parsed = parse(bytes(message) + b"\0" + bytes((0, 250, 0, 255, 0, 0, 0, 0, 0, 2, 1, 2)))  # a broken TSIG
    assert parsed.rcode == wire.NOERROR


def test_other_opcodes_are_not_implemented() -> None:
    message = bytearray(query())
    message[2] |= 5 << 3  # UPDATE
    parsed = parse(bytes(message))
    assert parsed.rcode == wire.NOTIMP
    assert dns.message.from_wire(wire.emit(parsed, parsed.rcode, size=512)).opcode() == 5


def test_an_answer_repeats_the_question_and_carries_its_records_in_order() -> None:
    records = [wire.Record(wire.A, 60, bytes((10, 0, 0, last))) for last in (3, 1, 2)]
    parsed = parse(query("ExAmple.com", id=7))
    answer = dns.message.from_wire(wire.emit(parsed, wire.NOERROR, records, size=512))
    assert answer.id == 7
    assert answer.flags == dns.flags.QR | dns.flags.RD | dns.flags.RA
    assert answer.question[0].name.to_text() == "ExAmple.com."
    assert [rdata.address for rdata in answer.answer[0]] == ["10.0.0.3", "10.0.0.1", "10.0.0.2"]
    assert answer.answer[0].ttl == 60
    assert answer.edns == -1


def test_checking_disabled_and_dnssec_ok_are_repeated() -> None:
    message = dns.message.make_query("example.com", "A", want_dnssec=True, flags=dns.flags.RD | dns.flags.CD)
    answer = dns.message.from_wire(wire.emit(parse(message.to_wire()), wire.NOERROR, size=512))
    assert answer.flags & dns.flags.CD
    assert answer.ednsflags & dns.flags.DO


def test_nothing_can_be_remembered_for_the_time_given() -> None:
    answer = dns.message.from_wire(wire.emit(parse(query()), wire.NXDOMAIN, negative_ttl_s=30, size=512))
    assert answer.rcode() == wire.NXDOMAIN
    assert answer.authority[0].rdtype == dns.rdatatype.SOA
    assert answer.authority[0].ttl == answer.authority[0][0].minimum == 30


@pytest.mark.parametrize("edns", [False, True])
def test_what_does_not_fit_is_cut_and_said_to_be(edns: bool) -> None:
    parsed = parse(query(use_edns=0 if edns else False, payload=600))
    records = [wire.Record(wire.AAAA, 60, bytes(15) + bytes((last,))) for last in range(100)]
    message = wire.emit(parsed, wire.NOERROR, records, size=parsed.udp_size)
    assert len(message) <= parsed.udp_size
    answer = dns.message.from_wire(message)
    assert answer.flags & dns.flags.TC
    assert not answer.answer
    assert (answer.edns == 0) is edns
    whole = dns.message.from_wire(wire.emit(parsed, wire.NOERROR, records, size=wire.TCP_SIZE))
    assert len(whole.answer[0]) == 100


@given(st.binary(max_size=600))
def test_no_bytes_make_the_parser_raise(message: bytes) -> None:
    parsed = wire.parse(message)
    if parsed is not None:
        assert len(wire.emit(parsed, parsed.rcode, size=512)) <= 512


@given(st.data())
def test_no_change_of_a_good_query_makes_the_parser_raise(data: st.DataObject) -> None:
    message = bytearray(query("www.example.com", use_edns=0, payload=1232))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    message[2] &= 0x7F
    parsed = parse(bytes(message))
    emitted = dns.message.from_wire(wire.emit(parsed, parsed.rcode, size=512))
    assert emitted.id == parsed.id
