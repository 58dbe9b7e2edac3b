# SPDX-License-Identifier: GPL-3.0-or-later
"""Every parser by itself, under bytes that hypothesis chooses: only its own error, and what it says holds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from hypothesis import example, given, settings
from hypothesis import strategies as st

from torbox.netstack.dns import NameService
from torbox.netstack.name_pool import NamePool
from torbox.netstack.reassembly import MAX_BYTES, MAX_PACKETS, Reassembly
from torbox.netstack.tcp import options as tcp_options
from torbox.netstack.wire import WireError, icmpv4, icmpv6, ip, ipv4, ipv6, tcp, udp, vnet
from torbox.upstream.socks5_protocol import CONNECT, MAX_REPLY, Reply, Socks5Client, Socks5Error, request

EXAMPLES = settings(max_examples=400, deadline=None)
A4 = bytes((10, 0, 2, 100, 192, 0, 2, 7))
A6 = bytes.fromhex("fd00" + "00" * 13 + "64" + "20010db8" + "00" * 11 + "07")
PROTOCOLS = st.sampled_from((0, 1, 6, 17, 43, 44, 58, 59, 60, 99))


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """Bytes behind an IP header that is right, or only looks it."""
    payload = draw(st.binary(max_size=200))
    form, addresses = draw(st.sampled_from(((ipv4, A4), (ipv6, A6))))
    packet = bytearray(form.emit(addresses, draw(PROTOCOLS), len(payload)) + payload)
    for at, value in draw(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=2)):
        packet[at % len(packet)] = value
    return bytes(packet)


def parsed(data: bytes, start: int = 0) -> ip.Packet | None:
    for form in (ipv4, ipv6):
        with contextlib.suppress(WireError):
            return form.parse(memoryview(data), start, len(data))
    return None


@given(st.one_of(st.binary(max_size=120), packets()), st.integers(0, 12))
@EXAMPLES
def test_ip_headers(data: bytes, start: int) -> None:
    data = bytes(start) + data
    packet = parsed(data, start)
    if packet is not None:
        assert start == packet.header < packet.start <= packet.end <= len(data)
        assert len(packet.addresses) == (8 if packet.version == 4 else 32)
        assert packet.header + packet.next_header < packet.end or packet.start == packet.end
        if packet.fragment is not None:
            assert 0 <= packet.fragment.offset <= 65535
            assert packet.start < packet.end


@given(packets(), st.booleans())
@EXAMPLES
def test_what_is_behind_them(data: bytes, verify: bool) -> None:
    packet = parsed(data)
    if packet is None:
        return
    size = packet.end - packet.start
    with contextlib.suppress(WireError):
        segment = tcp.parse(packet, verify=verify)
        assert 20 + len(segment.options) + len(segment.data) == size
        assert len(segment.options) <= tcp.MAX_OPTIONS
    with contextlib.suppress(WireError):
        assert len(udp.parse(packet, verify=verify).payload) <= size - udp.HEADER_SIZE
    for form in (icmpv4, icmpv6):
        with contextlib.suppress(WireError):
            assert len(form.parse(packet).body) == size - 8


@given(st.binary(max_size=20))
def test_virtio_headers(data: bytes) -> None:
    with contextlib.suppress(WireError):
        assert not vnet.parse(data).gso_type & vnet.GSO_ECN


KINDS = st.sampled_from((0, 1, 2, 3, 4, 5, 8, 19, 34, 254, 255))


@st.composite
def options(draw: st.DrawFn) -> bytes:
    """Options that are nearly options."""
    parts = []
    for _ in range(draw(st.integers(0, 6))):
        body = draw(st.binary(max_size=10))
        size = draw(st.one_of(st.just(len(body) + 2), st.integers(0, 255)))
        parts.append(bytes((draw(KINDS), size)) + body)
    return b"".join(parts)[:40]


@given(st.one_of(options(), st.binary(max_size=40)))
@example(b"\2")
@example(b"\3\2")
@EXAMPLES
def test_options(data: bytes) -> None:
    found = tcp_options.parse(data)
    assert 0 <= found.mss <= 65535
    assert -1 <= found.window_scale <= tcp_options.MAX_WINDOW_SCALE


@given(
    st.lists(
        st.tuples(st.integers(0, 90), st.integers(0, 60), st.integers(1, 300), st.booleans()), max_size=200
    )
)
@EXAMPLES
def test_fragments(pieces: list[tuple[int, int, int, bool]]) -> None:
    held = Reassembly()
    for identification, place, units, more in pieces:
        flags = place | (0x2000 if more else 0)
        size = units * 8
        packet = ipv4.emit(A4, 17, size, identification=identification, flags=flags) + bytes(size)
        with contextlib.suppress(WireError):
            made = ipv4.parse(memoryview(packet), 0, len(packet))
            if made.fragment is None:
                continue
            whole = held.put(made, float(place))
            if whole is not None:
                assert whole.end - whole.start <= 65535
        assert len(held) <= MAX_PACKETS
        assert 0 <= held.size <= MAX_BYTES


CREDENTIALS = st.sampled_from((None, (b"user", b"password")))
REPLIES = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from((b"\5\0", b"\5\2", b"\1\0", b"\5\0\0\1" + bytes(6), b"\5\0\0\3\4name\0\x50")),
        st.builds(lambda size: b"\5\0\0\3" + bytes((size,)) + bytes(size + 2), st.integers(0, 255)),
    ),
    max_size=6,
)


@given(CREDENTIALS, REPLIES, st.integers(1, 50))
@EXAMPLES
def test_a_socks_server_may_say_anything(
    credentials: tuple[bytes, bytes] | None, replies: list[bytes], cut: int
) -> None:
    wanted = request(CONNECT, b"", b"site.example", 80)
    client = Socks5Client(wanted, credentials)
    sent = client.opening()
    stream = b"".join(replies)
    received = 0
    try:
        for at in range(0, len(stream), cut):
            piece = stream[at : at + cut]
            sent += client.receive(piece)
            received += len(piece)
            if client.reply is None:
                assert len(client._buffer) < MAX_REPLY
            else:
                break
    except Socks5Error:
        assert client.reply is None
        return
    assert sent.count(wanted) == client.granted  # once at most, and only when granted
    if client.reply is not None:
        assert isinstance(client.reply, Reply)
        assert (client.reply.refusal is None) == (client.reply.code == 0)
        assert len(client.rest) < cut


# Of a reverse name, two at a time: of public addresses, and what bytes.fromhex would skip.
DIGITS = st.sampled_from((b"12", b"  ", b"\t\t"))
LABELS = st.one_of(
    st.lists(st.one_of(st.binary(min_size=1, max_size=63), st.just(b"example")), max_size=6),
    st.lists(DIGITS, min_size=16, max_size=16).map(
        lambda digits: [*(b"%c" % digit for digit in b"".join(digits)), b"ip6", b"arpa"]
    ),
    st.lists(st.binary(min_size=1, max_size=4), min_size=4, max_size=4).map(
        lambda numbers: [*numbers, b"in-addr", b"arpa"]
    ),
)


@given(
    LABELS,
    st.sampled_from((1, 12, 28, 65, 255)),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=3),
    st.binary(max_size=30),
)
@EXAMPLES
def test_whatever_is_asked_has_at_most_one_answer_of_bounded_size(
    labels: list[bytes], rdtype: int, damage: list[tuple[int, int]], tail: bytes
) -> None:
    question = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    message = bytearray(b"\0\7\1\0\0\1\0\0\0\0\0\0" + question + bytes((0, rdtype, 0, 1)) + tail)
    for at, value in damage:
        message[at % len(message)] = value
    pending: list[Callable[[tuple[bytes, ...], int, bool], None]] = []

    def resolve(name: bytes, kind: str, done: Callable[[tuple[bytes, ...], int, bool], None]) -> None:
        assert len(name) in (4, 16) if kind == "PTR" else 0 < len(name) < 254
        pending.append(done)

    for mode in ("names", "tor", "off"):
        names = NameService(
            mode=mode,
            pool=NamePool(4),
            hosts={},
            takes_onions=True,
            takes_ipv6=True,
            resolve=resolve,
        )
        answers: list[bytes] = []
        deserved = names.answer(bytes(message), 1.0, answers.append)
        for done in pending:
            done((), 60, True)
        pending.clear()
        assert len(answers) == deserved
        assert all(12 <= len(answer) <= 1232 and answer[2] & 0x80 for answer in answers)
