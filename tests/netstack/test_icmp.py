# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors that the guest is told, errors that it tells, and those that nobody may tell."""

from __future__ import annotations

import struct

import pytest

from tests.netstack.addresses import GATEWAYS, GROUPS, GUESTS, REMOTES, VERSIONS
from tests.netstack.world import World
from torbox.netstack.flow import FlowKey, Refusal
from torbox.netstack.reassembly import TIMEOUT_S
from torbox.netstack.wire import icmpv4, icmpv6, ip, ipv4, ipv6, tcp, udp
from torbox.netstack.wire.ip import Packet

TIME_EXCEEDED = {4: icmpv4.TIME_EXCEEDED, 6: icmpv6.TIME_EXCEEDED}
QUIC = udp.emit(GUESTS[4] + REMOTES[4], 4000, 443, b"quic")


def emit_error(version: int, addresses: bytes, type_: int, code: int, rest: int, quote: bytes) -> bytes:
    """A whole packet with an ICMP error from and to these addresses."""
    if version == 4:
        message = icmpv4.emit(type_, code, rest, quote)
        return ipv4.emit(addresses, ip.ICMPV4, len(message)) + message
    message = icmpv6.emit(addresses, type_, code, rest, quote)
    return ipv6.emit(addresses, ip.ICMPV6, len(message)) + message


def with_hop_limit(packet: bytes, hops: int) -> bytes:
    if packet[0] >> 4 == 6:
        return packet[:7] + bytes((hops,)) + packet[8:]
    changed = packet[:8] + bytes((hops,)) + packet[9:10] + bytes(2) + packet[12:20]
    return (
        changed[:10]
        + (0xFFFF - sum(struct.unpack("!10H", changed)) % 0xFFFF).to_bytes(2, "big")
        + packet[12:]
    )


def datagram(version: int, port: int = 443, size: int = 4) -> bytes:
    addresses = GUESTS[version] + REMOTES[version]
    form = ipv4 if version == 4 else ipv6
    data = udp.emit(addresses, 4000, port, b"q" * size)
    return form.emit(addresses, ip.UDP, len(data)) + data


def form_of(version: int, quote: bytes) -> Packet:
    return (ipv4 if version == 4 else ipv6).parse(memoryview(quote), 0, len(quote))


# Hop limits


@VERSIONS
@pytest.mark.parametrize("hops", [0, 1])
def test_a_packet_that_may_not_go_beyond_the_gateway_does_not_and_its_sender_is_told(
    version: int, hops: int
) -> None:
    world = World(version)
    packet = with_hop_limit(datagram(version), hops)
    world.guest.send(packet)
    syn = tcp.emit(GUESTS[version] + REMOTES[version], bytes((1, 1, 0, 80)), 7, 0, tcp.SYN, 500)
    world.guest.send(with_hop_limit(syn, hops))
    heard = world.icmp()
    assert [(source, type_, code) for source, type_, code, _ in heard] == [
        (GATEWAYS[version], TIME_EXCEEDED[version], 0)
    ] * 2
    assert heard[0][3] == packet
    assert world.opened == []
    assert world.stack.counters.dropped == {"hop limit exceeded": 2}


@VERSIONS
def test_the_gateway_itself_can_be_reached_with_any_hop_limit(version: int) -> None:
    world = World(version)
    world.guest.send_echo(GATEWAYS[version], 1, b"near")
    world.device.from_guest[0] = bytes(10) + with_hop_limit(world.device.from_guest[0][10:], 1)
    [packet] = world.turn()
    message = icmpv4.parse(packet) if version == 4 else icmpv6.parse(packet)
    assert bytes(message.body) == b"near"


@VERSIONS
def test_an_echo_request_finds_the_gateway_as_the_first_hop(version: int) -> None:
    world = World(version)
    world.guest.send_echo(REMOTES[version], 1, b"trace")
    world.device.from_guest[0] = bytes(10) + with_hop_limit(world.device.from_guest[0][10:], 1)
    [(source, type_, code, _)] = world.icmp()
    assert (source, type_, code) == (GATEWAYS[version], TIME_EXCEEDED[version], 0)


# Reassembly


@VERSIONS
def test_a_packet_that_stays_incomplete_is_told_of_if_its_beginning_came(version: int) -> None:
    world = World(version)
    whole = datagram(version, size=3000)
    addresses, form = GUESTS[version] + REMOTES[version], ipv4 if version == 4 else ipv6
    pieces = form.fragments(addresses, ip.UDP, whole[20 if version == 4 else 40 :], 1280, 9)
    later = form.fragments(addresses, ip.UDP, whole[20 if version == 4 else 40 :], 1280, 10)
    world.guest.send(pieces[0])
    world.guest.send(later[1])
    assert world.icmp() == []
    world.now = world.stack.deadline
    assert world.now == 50.0 + TIMEOUT_S
    world.stack.expire(world.now)
    [(source, type_, code, quote)] = world.icmp()
    assert (source, type_, code) == (REMOTES[version], TIME_EXCEEDED[version], 1)
    assert quote == pieces[0][: len(quote)]
    assert len(quote) == (icmpv4.MAX_QUOTE if version == 4 else icmpv6.MAX_QUOTE)
    assert len(world.stack.reassembly) == 0
    assert world.stack.reassembly.gave_way == 2


@VERSIONS
def test_errors_in_fragments_are_told_of_by_nobody(version: int) -> None:
    world = World(version)
    addresses, form = GUESTS[version] + REMOTES[version], ipv4 if version == 4 else ipv6
    error = emit_error(version, addresses, 3, 1, 0, bytes(3000))
    protocol = ip.ICMPV4 if version == 4 else ip.ICMPV6
    world.guest.send(form.fragments(addresses, protocol, error[20 if version == 4 else 40 :], 1280, 9)[0])
    world.turn()
    world.now += TIMEOUT_S
    world.stack.expire(world.now)
    assert world.turn() == []
    assert world.stack.reassembly.gave_way == 1


# IPv6 extension headers


def options(*body: int, following: int = ip.UDP) -> bytes:
    return bytes((following, (len(body) + 2) // 8 - 1, *body))


def send_with_options(
    world: World, headers: bytes, protocol: int, payload: bytes, to: bytes = REMOTES[6]
) -> bytes:
    packet = ipv6.emit(GUESTS[6] + to, protocol, len(headers) + len(payload)) + headers + payload
    world.guest.send(packet)
    return packet


@pytest.mark.parametrize("protocol", [ipv6.HOP_BY_HOP, ipv6.DESTINATION_OPTIONS])
@pytest.mark.parametrize("option", [0x8A, 0xCA])
def test_an_option_that_must_be_known_is_told_of(protocol: int, option: int) -> None:
    world = World(6)
    packet = send_with_options(world, options(1, 0, option, 2, 0, 0), protocol, b"")
    [(source, type_, code, quote)] = world.icmp()
    assert (source, type_, code) == (REMOTES[6], icmpv6.PARAMETER_PROBLEM, icmpv6.UNKNOWN_OPTION)
    assert quote == packet
    assert world.stack.counters.dropped == {"ipv6: unknown option": 1}


def test_the_pointer_of_a_problem_is_where_it_is() -> None:
    world = World(6)
    headers = options(1, 4, 0, 0, 0, 0, following=ipv6.DESTINATION_OPTIONS) + options(0, 0, 0x80, 1, 0, 0)
    send_with_options(world, headers, ipv6.HOP_BY_HOP, b"")
    [packet] = world.turn()
    assert icmpv6.parse(packet).rest == 40 + 8 + 4


def test_an_option_that_is_to_be_discarded_in_silence_is() -> None:
    world = World(6)
    send_with_options(world, options(0x40, 4, 0, 0, 0, 0), ipv6.DESTINATION_OPTIONS, QUIC)
    assert world.turn() == []
    assert world.stack.counters.dropped == {"ipv6: unknown option": 1}


def test_an_option_that_may_be_skipped_is() -> None:
    world = World(6)
    data = udp.emit(GUESTS[6] + GATEWAYS[6], 4000, 53, b"name?")
    headers = options(0x1E, 2, 9, 9, 0, 0)
    send_with_options(world, headers, ipv6.DESTINATION_OPTIONS, data, GATEWAYS[6])
    assert world.turn() == []
    assert [payload for _, payload in world.datagrams] == [b"name?"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ((*(0x1E, 0) * 9, 0, 0, 0, 0), "too many options"),
        ((1, 12, *bytes(12)), "too much padding"),
        (bytes(14), "too much padding"),
        ((0x1E, 5, 0, 0, 0, 0), "option that is cut off"),
        ((0x1E, 3, 0, 0, 0, 0x1E), "option that is cut off"),
    ],
)
def test_options_are_bounded(body: tuple[int, ...], reason: str) -> None:
    world = World(6)
    send_with_options(world, options(*body), ipv6.DESTINATION_OPTIONS, QUIC)
    assert world.turn() == []
    assert world.stack.counters.dropped == {f"ipv6: {reason}": 1}


def test_a_source_route_is_told_of_at_its_type() -> None:
    world = World(6)
    send_with_options(world, bytes((ip.UDP, 0, 0, 1)) + bytes(4), ipv6.ROUTING, QUIC)
    [packet] = world.turn()
    message = icmpv6.parse(packet)
    assert (message.type, message.code, message.rest) == (4, icmpv6.ERRONEOUS_FIELD, 42)


@pytest.mark.parametrize(("offset", "more", "size", "pointer"), [(0, 1, 9, 4), (0xFFF8, 0, 16, 42)])
def test_a_fragment_of_an_impossible_size_is_told_of(offset: int, more: int, size: int, pointer: int) -> None:
    world = World(6)
    header = ipv6.FRAGMENT.pack(ip.UDP, 0, offset | more, 7)
    send_with_options(world, header, ipv6.FRAGMENT_HEADER, bytes(size))
    heard = world.turn()
    if offset:  # RFC 4443 has no exception for it, and later fragments name no flow
        assert heard == []
    else:
        assert icmpv6.parse(heard[0]).rest == pointer
    assert world.stack.counters.dropped == {"ipv6: impossible fragment": 1}


@pytest.mark.parametrize(
    ("protocol", "rest"),
    [
        (ip.TCP, bytes(16)),  # half a header
        (ipv6.DESTINATION_OPTIONS, options(1, 4, 0, 0, 0, 0, following=ip.UDP)),  # none at all
        (ipv6.ROUTING, bytes((ip.UDP, 1)) + bytes(6)),  # cut off in the midst of another
    ],
)
def test_a_first_fragment_that_does_not_say_what_it_is_of_is_told_of(protocol: int, rest: bytes) -> None:
    world = World(6)
    send_with_options(world, ipv6.FRAGMENT.pack(protocol, 0, 1, 7), ipv6.FRAGMENT_HEADER, rest)
    [packet] = world.turn()
    message = icmpv6.parse(packet)
    assert (message.type, message.code, message.rest) == (4, ipv6.INCOMPLETE_CHAIN, 0)
    assert world.stack.counters.dropped == {"ipv6: first fragment without its headers": 1}


def test_a_problem_with_an_error_or_with_what_is_for_many_is_not_told_of() -> None:
    world = World(6)
    bad = options(0x80, 4, 0, 0, 0, 0, following=ip.ICMPV6)
    error = icmpv6.emit(GUESTS[6] + REMOTES[6], icmpv6.UNREACHABLE, 0, 0, bytes(48))
    send_with_options(world, bad, ipv6.DESTINATION_OPTIONS, error)
    send_with_options(world, bad, ipv6.DESTINATION_OPTIONS, b"\x80" + bytes(7), GROUPS[6])
    assert world.turn() == []
    assert world.stack.counters.dropped == {"ipv6: unknown option": 2}
    send_with_options(world, bad, ipv6.DESTINATION_OPTIONS, b"\x80" + bytes(7))
    assert len(world.turn()) == 1, "an echo request is no error"


def test_extension_headers_behind_a_fragment_header_are_walked_when_the_packet_is_whole() -> None:
    world = World(6)
    addresses = GUESTS[6] + GATEWAYS[6]
    inner = options(1, 4, 0, 0, 0, 0) + udp.emit(addresses, 4000, 53, b"y" * 3000)
    for piece in ipv6.fragments(addresses, ipv6.DESTINATION_OPTIONS, inner, 1280, 5):
        world.guest.send(piece)
    assert world.turn() == []
    assert [payload for _, payload in world.datagrams] == [b"y" * 3000]


def test_fragments_within_fragments_are_dropped() -> None:
    world = World(6)
    addresses = GUESTS[6] + GATEWAYS[6]
    inner = ipv6.FRAGMENT.pack(ip.UDP, 0, 1, 6) + bytes(2000)
    for piece in ipv6.fragments(addresses, ipv6.FRAGMENT_HEADER, inner, 1280, 5):
        world.guest.send(piece)
    assert world.turn() == []
    assert world.stack.counters.dropped == {"fragments within fragments": 1}


# What the guest says of our packets


@VERSIONS
def test_a_guests_refusal_of_a_datagram_is_passed_on(version: int) -> None:
    world = World(version)
    refused: list[FlowKey] = []
    world.stack.datagram_refused = refused.append
    key = FlowKey(GUESTS[version], 4000, REMOTES[version], 443)
    world.stack.send_datagram(key, b"late")
    [packet] = world.turn()
    quote = bytes(packet.buffer[packet.header : packet.end])
    addresses = GUESTS[version] + REMOTES[version]
    error = emit_error(version, addresses, 3 if version == 4 else 1, 3 if version == 4 else 4, 0, quote)
    world.guest.send(error)
    assert world.turn() == []
    assert refused == [key]
    assert world.stack.counters.complaints == 1


@VERSIONS
def test_a_complaint_about_somebody_elses_packet_is_not_heard(version: int) -> None:
    world = World(version)
    refused: list[FlowKey] = []
    world.stack.datagram_refused = refused.append
    error = emit_error(version, GUESTS[version] + GATEWAYS[version], 3, 3, 0, datagram(version))
    world.guest.send(error)
    assert world.turn() == []
    assert refused == []
    assert world.stack.counters.dropped == {"icmp: an error about somebody else's packet": 1}


@VERSIONS
@pytest.mark.parametrize("why", list(Refusal))
def test_a_datagram_that_failed_later_is_told_of_in_words_of_its_flow(version: int, why: Refusal) -> None:
    world = World(version)
    key = FlowKey(GUESTS[version], 4000, REMOTES[version], 443)
    world.stack.refuse_datagram(key, why)
    heard = world.icmp()
    codes = {
        Refusal.REFUSED: (3, 4),
        Refusal.NET_UNREACHABLE: (0, 0),
        Refusal.HOST_UNREACHABLE: (1, 3),
        Refusal.PROHIBITED: (13, 1),
    }
    if why is Refusal.TIMED_OUT:
        assert heard == []
        return
    [(source, type_, code, quote)] = heard
    assert source == (REMOTES if why is Refusal.REFUSED else GATEWAYS)[version]
    assert (type_, code) == ((3, codes[why][0]) if version == 4 else (1, codes[why][1]))
    quoted = form_of(version, quote)
    assert quoted.addresses == GUESTS[version] + REMOTES[version]
    assert bytes(quoted.payload[:4]) == struct.pack("!HH", 4000, 443)


@VERSIONS
def test_a_datagram_that_is_too_large_for_the_way_out_is_told_of_with_the_mtu(version: int) -> None:
    world = World(version)
    world.stack.datagram_too_big(FlowKey(GUESTS[version], 4000, REMOTES[version], 443), 1400)
    [packet] = world.turn()
    assert packet.source == GATEWAYS[version]
    message = icmpv4.parse(packet) if version == 4 else icmpv6.parse(packet)
    assert (message.type, message.code) == ((3, 4) if version == 4 else (2, 0))
    assert message.rest == 1400


# Path MTU of a connection


def opened(world: World, mss: int = 8960) -> tuple[int, bytes]:
    """A connection with 5000 bytes in flight: the number of the first, and the packet that carries them."""
    version = world.version
    world.guest.send_segment(
        REMOTES[version], (4000, 80), 1, 0, tcp.SYN, 65535, b"\2\4" + mss.to_bytes(2, "big")
    )
    world.turn()
    connection = world.opened[-1]
    connection.accept()
    [packet] = world.turn()
    iss = tcp.parse(packet, verify=False).seq
    world.guest.send_segment(REMOTES[version], (4000, 80), 2, iss + 1, tcp.ACK, 65535)
    world.turn()
    connection.snd_buf.write(b"z" * 5000)
    world.stack.mark(connection)
    [packet] = world.turn()
    return iss + 1, bytes(packet.buffer[packet.header : packet.end])


def too_big(world: World, quote: bytes, mtu: int, router: bytes = b"") -> None:
    version = world.version
    addresses = (router or GUESTS[version]) + REMOTES[version]
    type_, code = (3, 4) if version == 4 else (2, 0)
    world.guest.send(emit_error(version, addresses, type_, code, mtu, quote[:100]))


@VERSIONS
def test_a_smaller_mtu_behind_the_guest_makes_smaller_segments_at_once(version: int) -> None:
    world = World(version, mtu=9000)
    _, packet = opened(world)
    headers = 40 if version == 4 else 60
    too_big(
        world, packet, 1400, bytes((172, 17, 0, 1)) if version == 4 else bytes.fromhex("fd11" + "00" * 14)
    )
    world.stack.receive(world.now)
    world.stack.flush(world.now)
    received = world.guest.received()
    assert received is not None
    assert received[0].gso_size == 1400 - headers, "what was too large is sent again, and cut"
    assert world.opened[0].sender.mss == 1400 - headers


@VERSIONS
def test_no_mtu_makes_segments_smaller_than_any_link_in_use_would(version: int) -> None:
    for mtu in (0, 1, 68, 500):
        world = World(version, mtu=9000)
        _, packet = opened(world)
        too_big(world, packet, mtu)
        world.turn()
        assert world.opened[0].sender.mss == (552 - 40 if version == 4 else 1280 - 60)


@VERSIONS
def test_a_message_that_quotes_what_is_not_in_flight_or_promises_more_changes_nothing(version: int) -> None:
    world = World(version, mtu=9000)
    seq, packet = opened(world)
    before = world.opened[0].sender.mss
    at = (20 if version == 4 else 40) + 4
    for wrong in (seq - 1, seq + 5000, seq + 100_000):
        too_big(world, packet[:at] + (wrong & 0xFFFFFFFF).to_bytes(4, "big") + packet[at + 4 :], 1400)
    too_big(world, packet, 9000)
    too_big(world, packet[: at - 4] + b"\0\1" + packet[at - 2 :], 1400)
    assert world.turn() == []
    assert world.opened[0].sender.mss == before
    assert world.stack.counters.complaints == 5


@VERSIONS
def test_an_unreachable_does_not_end_a_connection(version: int) -> None:
    """RFC 5927 §6: whoever wants to end one of the guest's connections can send a reset in its own name."""
    world = World(version)
    _, packet = opened(world, 1400)
    world.guest.send(
        emit_error(version, GUESTS[version] + REMOTES[version], 3 if version == 4 else 1, 1, 0, packet[:100])
    )
    assert world.turn() == []
    assert len(world.stack.connections) == 1
