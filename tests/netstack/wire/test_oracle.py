# SPDX-License-Identifier: GPL-3.0-or-later
"""ICMP errors, IPv4 options, IPv6 extension headers and fragments, against impacket, both ways."""

from __future__ import annotations

import random
from typing import Any

import pytest
from impacket import ICMP6, IP6, ImpactDecoder, ImpactPacket, IP6_Extension_Headers

from tests.netstack.addresses import GATEWAYS, GUESTS, REMOTES, VERSIONS
from tests.netstack.wire.test_formats import A4, A6, B4, B6, parsed
from tests.netstack.world import World
from torbox.netstack.flow import FlowKey
from torbox.netstack.wire import icmpv4, icmpv6, ip, ipv4, ipv6, quote, udp


def impacket_ip(transport: Any, *options: Any) -> bytes:
    """An IPv4 packet of impacket's from A4 to B4, its checksums its own."""
    outer = ImpactPacket.IP()
    outer.set_ip_src("10.0.2.100")
    outer.set_ip_dst("192.0.2.7")
    for option in options:
        outer.add_option(option)
    outer.contains(transport)
    return bytes(outer.get_packet())


def impacket_datagram(data: bytes) -> Any:
    datagram = ImpactPacket.UDP()
    datagram.set_uh_sport(4000)
    datagram.set_uh_dport(53)
    datagram.contains(ImpactPacket.Data(data))
    return datagram


def record_route() -> Any:
    option = ImpactPacket.IPOption(ImpactPacket.IPOption.IPOPT_RR, 11)
    option.append_ip("10.0.0.1")
    return option


@pytest.mark.parametrize(
    "options",
    [
        (),
        (ImpactPacket.IPOption.IPOPT_NOP,) * 4,
        (ImpactPacket.IPOption.IPOPT_NOP, "route"),
        (ImpactPacket.IPOption.IPOPT_EOL,),
    ],
)
def test_ipv4_options_of_impacket_are_stepped_over(options: tuple[Any, ...]) -> None:
    made = [record_route() if kind == "route" else ImpactPacket.IPOption(kind) for kind in options]
    packet = parsed(impacket_ip(impacket_datagram(b"hello"), *made))
    assert packet.addresses == A4 + B4
    assert packet.start - packet.header >= 20 + bool(options) * 4
    datagram = udp.parse(packet)
    assert (datagram.source_port, datagram.destination_port) == (4000, 53)
    assert bytes(datagram.payload) == b"hello"


def test_extension_headers_of_impacket_are_walked() -> None:
    outer = IP6.IP6()
    outer.set_ip_v(6)
    outer.set_ip_src("fd00::64")
    outer.set_ip_dst("2001:db8::7")
    outer.set_hop_limit(64)
    outer.set_next_header(0)
    hop = IP6_Extension_Headers.Hop_By_Hop()
    hop.add_option(IP6_Extension_Headers.Option_PADN(6))
    destination = IP6_Extension_Headers.Destination_Options()
    destination.add_option(IP6_Extension_Headers.Option_PADN(6))
    hop.set_next_header(60)
    destination.set_next_header(ip.UDP)
    outer.contains(hop)
    hop.contains(destination)
    data = udp.emit(A6 + B6, 4000, 53, b"hello")
    body = bytes(outer.get_packet())[40:] + data
    outer.set_payload_length(len(body))
    packet = parsed(bytes(outer.get_packet())[:40] + body)
    assert (packet.protocol, packet.addresses) == (ip.UDP, A6 + B6)
    assert packet.next_header == 40 + 8
    assert bytes(udp.parse(packet).payload) == b"hello"


@VERSIONS
def test_impacket_reads_our_refusal_and_what_it_quotes(version: int) -> None:
    world = World(version)
    world.guest.send_datagram(REMOTES[version], (4000, 443), b"quic")
    sent = world.device.from_guest[-1][10:]
    [packet] = world.turn()
    whole = bytes(packet.buffer[packet.header : packet.end])
    if version == 4:
        outer = ImpactDecoder.IPDecoder().decode(whole)
        message = outer.child()
        assert (message.get_icmp_type(), message.get_icmp_code()) == (3, 3)
        assert message.get_icmp_cksum() == ImpactPacket.Header.compute_checksum(
            message, bytearray(whole[20:22] + bytes(2) + whole[24:])
        )
        quoted = message.child()
        assert (quoted.get_ip_src(), quoted.get_ip_dst()) == ("10.0.2.100", "192.0.2.7")
        assert quoted.child().get_uh_dport() == 443
    else:
        outer = ImpactDecoder.IP6Decoder().decode(whole)
        message = outer.child()
        assert (message.get_type(), message.get_code()) == (1, 4)
        assert message.get_checksum() == checksum_of_impacket(outer, message)
    assert whole.endswith(sent)


def checksum_of_impacket(outer: Any, message: Any) -> int:
    message.set_checksum(0)
    message.calculate_checksum()
    return int(message.get_checksum())


@VERSIONS
def test_a_refusal_of_impackets_making_is_heard(version: int) -> None:
    world = World(version)
    refused: list[FlowKey] = []
    world.stack.datagram_refused = refused.append
    key = FlowKey(GUESTS[version], 4000, REMOTES[version], 443)
    world.stack.send_datagram(key, b"late")
    [packet] = world.turn()
    ours = bytes(packet.buffer[packet.header : packet.end])
    if version == 4:
        message = ImpactPacket.ICMP()
        message.set_icmp_type(3)
        message.set_icmp_code(3)
        message.contains(ImpactPacket.Data(ours))
        world.guest.send(impacket_ip(message))
    else:
        outer = IP6.IP6()
        outer.set_ip_v(6)
        outer.set_ip_src("fd00::64")
        outer.set_ip_dst("2001:db8::7")
        outer.set_hop_limit(64)
        outer.set_next_header(ip.ICMPV6)
        message = ICMP6.ICMP6.Destination_Unreachable(ICMP6.ICMP6.PORT_UNREACHABLE, ours)
        outer.set_payload_length(message.get_size())
        outer.contains(message)
        message.calculate_checksum()
        world.guest.send(bytes(outer.get_packet()))
    assert world.turn() == []
    assert refused == [key]


def test_impacket_reads_our_packet_too_big_and_time_exceeded() -> None:
    message = ImpactDecoder.ICMP6Decoder().decode(icmpv6.emit(A6 + B6, icmpv6.TOO_BIG, 0, 1400, bytes(48)))
    assert (message.get_type(), message.get_mtu()) == (2, 1400)
    message = ImpactDecoder.ICMP6Decoder().decode(icmpv6.emit(A6 + B6, icmpv6.TIME_EXCEEDED, 1, 0, bytes(48)))
    assert (message.get_type(), message.get_code()) == (3, 1)
    message = ImpactDecoder.ICMP6Decoder().decode(
        icmpv6.emit(A6 + B6, icmpv6.PARAMETER_PROBLEM, icmpv6.UNKNOWN_OPTION, 44, bytes(48))
    )
    assert (message.get_type(), message.get_code(), message.get_parm_problem_pointer()) == (4, 2, 44)
    quoted = ipv4.emit(B4 + A4, ip.UDP, 8) + udp.emit(B4 + A4, 53, 4000, b"")
    old = ImpactDecoder.ICMPDecoder().decode(icmpv4.emit(3, icmpv4.FRAGMENTATION_NEEDED, 1400, quoted))
    assert (old.get_icmp_code(), old.get_icmp_nextmtu()) == (4, 1400)
    expired = ImpactDecoder.ICMPDecoder().decode(icmpv4.emit(icmpv4.TIME_EXCEEDED, 1, 0, quoted))
    assert (expired.get_icmp_type(), expired.get_icmp_code()) == (11, 1)


def test_we_read_a_packet_too_big_of_impackets() -> None:
    data = ipv6.emit(B6 + A6, ip.TCP, 20) + bytes((0, 80, 9, 9)) + bytes(16)
    outer = IP6.IP6()
    outer.set_ip_v(6)
    outer.set_ip_src("fd00::64")
    outer.set_ip_dst("2001:db8::7")
    outer.set_hop_limit(64)
    outer.set_next_header(ip.ICMPV6)
    message = ICMP6.ICMP6.Packet_Too_Big(1300, data)
    outer.set_payload_length(message.get_size())
    outer.contains(message)
    message.calculate_checksum()
    read = icmpv6.parse(parsed(bytes(outer.get_packet())))
    assert (read.type, read.rest) == (icmpv6.TOO_BIG, 1300)
    assert quote.parse(6, read.body).ports == bytes((0, 80, 9, 9))


@pytest.mark.parametrize("size", [2000, 20_000])
def test_fragments_of_impackets_making_are_put_together(size: int) -> None:
    """impacket makes the whole; it is cut here by its own header's fields, and comes in any order."""
    world = World(4)
    data = random.Random(size).randbytes(size)
    outer = ImpactPacket.IP()
    outer.set_ip_src("10.0.2.100")
    outer.set_ip_dst("10.0.2.2")
    outer.contains(impacket_datagram(data))
    body = bytes(outer.get_packet())[20:]
    pieces = []
    for offset in range(0, len(body), 1480):
        piece = ImpactPacket.IP()
        piece.set_ip_src("10.0.2.100")
        piece.set_ip_dst("10.0.2.2")
        piece.set_ip_p(ip.UDP)
        piece.set_ip_id(77)
        piece.set_ip_off(offset // 8)
        piece.set_ip_mf(offset + 1480 < len(body))
        piece.set_ip_rf(False)
        piece.set_ip_df(False)
        piece.contains(ImpactPacket.Data(body[offset : offset + 1480]))
        pieces.append(bytes(piece.get_packet()))
    random.Random(1).shuffle(pieces)
    for each in pieces:
        world.guest.send(each)
    assert world.turn() == []
    assert [payload for _, payload in world.datagrams] == [data]


def test_our_fragments_are_put_together_by_impackets_fields() -> None:
    world = World(4)
    data = random.Random(2).randbytes(4000)
    assert world.stack.send_datagram(FlowKey(GUESTS[4], 4000, GATEWAYS[4], 53), data)
    body: dict[int, bytes] = {}
    last = 0
    for packet in world.turn():
        outer = ImpactDecoder.IPDecoder().decode(bytes(packet.buffer[packet.header : packet.end]))
        offset = outer.get_ip_offmask() & outer.get_ip_off()
        body[offset * 8] = bytes(packet.payload)
        if not outer.get_ip_mf():
            last = offset * 8
    assert max(body) == last
    assert b"".join(body[at] for at in sorted(body))[8:] == data


def test_our_ipv6_fragments_are_read_by_impacket() -> None:
    pieces = ipv6.fragments(A6 + B6, ip.UDP, udp.emit(A6 + B6, 1, 2, b"x" * 3000), 1280, 0x12345678)
    offsets = []
    for piece in pieces:
        outer = ImpactDecoder.IP6Decoder().decode(piece)
        assert outer.get_next_header() == ipv6.FRAGMENT_HEADER
        assert outer.get_payload_length() == len(piece) - 40
        offsets.append(int.from_bytes(piece[42:44], "big") & ~7)
    assert offsets == [0, 1232, 2464]
