# SPDX-License-Identifier: GPL-3.0-or-later
"""DNS messages (RFC 1035, EDNS0 of RFC 6891): a guest's query parsed, an answer emitted.

dnspython reads what a guest sends: names, with their pointers, lengths and loops, are where DNS
parsers break. Its whole-message classes are left alone on purpose. dns.message.from_wire imports a
module per record type it meets, which the guest would choose and a confined worker could not do,
and raises whatever an option's own parser raises; dns.renderer shuffles the records and takes 116 us
an answer, where query and answer together take 9 us as done here: the question repeated, with a few
plain records behind it.

Importing dnspython is dear, since dns.name looks up installed packages: 55 ms measured here (73 for
dns.message). A program must not wait for that to start, so it happens in warm_up, which the worker
calls while the program is being executed, or else at the first query.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import dns.wire

QR, TC, RD, RA, CD = 0x8000, 0x0200, 0x0100, 0x0080, 0x0010  # RFC 1035 §4.1.1, RFC 4035
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16  # RFC 1035, 6891
A, PTR, SOA, AAAA, OPT = 1, 12, 6, 28, 41
IN = 1

HEADER_SIZE = 12  # bytes
UDP_SIZE = 512  # bytes, RFC 1035 §4.2.1: without EDNS
UDP_SIZE_EDNS = 1232  # bytes: what we offer and at most send, the DNS flag day's value of 2020
TCP_SIZE = 65535  # bytes, RFC 1035 §4.2.2
ADDITIONAL_MAX = 8  # records: an OPT, perhaps a TSIG or SIG(0); the rest is somebody's game
DO = 0x8000  # RFC 3225, in the OPT record's flags

HEADER = Struct("!HHHHHH")  # id, flags, questions, answers, authorities, additionals
RECORD = Struct("!HHIH")  # type, class, ttl (seconds), size of the data
QUESTION_TAIL = Struct("!HH")  # type, class
SOA_DATA = Struct("!BBIIIII")  # two root names, serial, refresh, retry, expire, minimum (seconds)
POINTER = 0xC0  # RFC 1035 §4.1.4: the two high bits of what would be a label's length
QUESTION_POINTER = b"\xc0\x0c"  # RFC 1035 §4.1.4: the name at offset 12


class Query(NamedTuple):
    """A query as it was asked. `rcode` other than NOERROR is the only answer it deserves.

    `labels` are the raw bytes of the name in the case they came in, without the root's empty label.
    """

    id: int
    flags: int  # those an answer repeats: opcode, RD and CD
    labels: tuple[bytes, ...] = ()
    rdtype: int = 0
    rdclass: int = 0
    has_question: bool = False
    edns: bool = False
    udp_size: int = UDP_SIZE  # bytes the asker can take by UDP
    dnssec_ok: bool = False
    rcode: int = NOERROR


class Record(NamedTuple):
    """One record of an answer; its owner is the name that was asked. `rdata` is uncompressed."""

    rdtype: int
    ttl_s: int
    rdata: bytes


def warm_up() -> None:
    """Import what parse needs."""
    import dns.wire  # noqa: F401


def parse(message: bytes) -> Query | None:
    """Parse a query; None if it deserves no answer at all: an answer itself, or no header to speak of."""
    if len(message) < 4:
        return None
    flags = int.from_bytes(message[2:4], "big")
    if flags & QR:
        return None  # never answer an answer: two services could do so for ever
    query = Query(int.from_bytes(message[:2], "big"), flags & (0x7800 | RD | CD))
    if len(message) < HEADER_SIZE:
        return query._replace(rcode=FORMERR)
    if flags & 0x7800:
        return query._replace(rcode=NOTIMP)
    import dns.exception

    try:
        return _parse_sections(query, message)
    except dns.exception.DNSException:
        return query._replace(rcode=FORMERR)


def _parse_sections(query: Query, message: bytes) -> Query:
    import dns.wire

    parser = dns.wire.Parser(message, 4)
    questions, answers, authorities, additionals = parser.get_struct("!HHHH")
    if questions != 1 or answers or authorities or additionals > ADDITIONAL_MAX:
        return query._replace(rcode=FORMERR)  # RFC 9619: never more than one question
    name = parser.get_name()
    rdtype, rdclass = parser.get_struct("!HH")
    query = query._replace(labels=name.labels[:-1], rdtype=rdtype, rdclass=rdclass, has_question=True)
    for _ in range(additionals):
        has_owner = _skip_name(parser)
        rdtype, udp_size, ttl, size = parser.get_struct(RECORD.format)
        parser.get_bytes(size)
        if rdtype != OPT:
            continue
        if query.edns or has_owner:  # RFC 6891 §6.1.1
            return query._replace(rcode=FORMERR)
        version = ttl >> 16 & 0xFF
        query = query._replace(
            edns=True,
            udp_size=min(max(udp_size, UDP_SIZE), UDP_SIZE_EDNS),
            dnssec_ok=bool(ttl & DO),
            rcode=BADVERS if version else NOERROR,
        )
    return query


def _skip_name(parser: dns.wire.Parser) -> bool:
    """Step over the owner of a record of which no more is read; true if it is not the root.

    Pointers are not followed: eight owners that point at a name of 127 labels would cost as much as a
    hundred queries, and chains of pointers without a bound (dnspython before 2.8) as much as a thousand.
    """
    import dns.exception

    start = parser.current
    while size := parser.get_uint8():
        if size >= POINTER:
            parser.get_uint8()
            return True
        if size > 63 or parser.current - start + size > 255:  # RFC 1035 §2.3.4
            raise dns.exception.FormError
        parser.get_bytes(size)
    return parser.current > start + 1


def emit(
    query: Query, rcode: int, records: Sequence[Record] = (), *, negative_ttl_s: int = 0, size: int
) -> bytes:
    """The answer to `query`, at most `size` bytes long; what does not fit gives way to the TC bit.

    Without records, `negative_ttl_s` says for how long the asker may remember that (RFC 2308).
    """
    flags = QR | RA | query.flags | (rcode & 0xF)
    question = b""
    if query.has_question:
        question = emit_labels(query.labels) + QUESTION_TAIL.pack(query.rdtype, query.rdclass)
    opt = b""
    if query.edns:
        ttl = (rcode >> 4) << 24 | (DO if query.dnssec_ok else 0)
        opt = b"\0" + RECORD.pack(OPT, UDP_SIZE_EDNS, ttl, 0)
    answers = b"".join(
        QUESTION_POINTER + RECORD.pack(record.rdtype, IN, record.ttl_s, len(record.rdata)) + record.rdata
        for record in records
    )
    authority = _start_of_authority(negative_ttl_s) if negative_ttl_s and not records else b""
    counts = (1 if question else 0, len(records), 1 if authority else 0, 1 if opt else 0)
    if HEADER_SIZE + len(question) + len(answers) + len(authority) + len(opt) > size:
        flags |= TC
        answers = authority = b""
        counts = (counts[0], 0, 0, counts[3])
    return HEADER.pack(query.id, flags, *counts) + question + answers + authority + opt


def _start_of_authority(ttl_s: int) -> bytes:
    """The root's SOA, which alone lets a cache inside remember that there is nothing (RFC 2308 §3)."""
    rdata = SOA_DATA.pack(0, 0, 1, 1800, 900, 604800, ttl_s)
    return b"\0" + RECORD.pack(SOA, IN, ttl_s, len(rdata)) + rdata


def emit_labels(labels: Sequence[bytes]) -> bytes:
    """A name in wire format, uncompressed, as PTR data and questions have it; labels of 1 to 63 bytes."""
    return b"".join(len(label).to_bytes(1, "big") + label for label in labels) + b"\0"
