# SPDX-License-Identifier: GPL-3.0-or-later
"""Datagrams: taken, refused, cut and put together, and whether they may be cut on their way."""

from __future__ import annotations

import struct

import pytest

from tests.netstack.addresses import GATEWAYS, GUESTS, REMOTES, VERSIONS
from tests.netstack.world import World
from torbox.netstack.flow import FlowKey
from torbox.netstack.udp import MAX_SEGMENTS
from torbox.netstack.wire import ip, ipv4, ipv6, udp, vnet


@VERSIONS
def test_a_datagram_nobody_takes_is_refused_by_its_destination(version: int) -> None:
    world = World(version)
    world.guest.send_datagram(REMOTES[version], (4000, 443), b"quic")
    [(source, type_, code, quote)] = world.icmp()
    assert source == REMOTES[version]
    assert (type_, code) == ((3, 3) if version == 4 else (1, 4))
    quoted = (ipv4 if version == 4 else ipv6).parse(memoryview(quote), 0, len(quote))
    assert quoted.addresses == GUESTS[version] + REMOTES[version]
    assert bytes(quoted.payload[:4]) == struct.pack("!HH", 4000, 443)


@VERSIONS
def test_a_datagram_that_is_taken_is_not_refused_and_can_be_answered(version: int) -> None:
    world = World(version)
    world.guest.send_datagram(GATEWAYS[version], (4000, 53), b"name?")
    assert world.turn() == []
    key = FlowKey(GUESTS[version], 4000, GATEWAYS[version], 53)
    assert world.datagrams == [(key, b"name?")]
    assert world.stack.send_datagram(key, b"address!")
    [packet] = world.turn()
    assert packet.addresses == GATEWAYS[version] + GUESTS[version]
    datagram = udp.parse(packet, verify=False)
    assert (datagram.source_port, datagram.destination_port) == (53, 4000)
    assert bytes(datagram.payload) == b"address!"


@VERSIONS
@pytest.mark.parametrize("offload", [True, False])
def test_a_large_datagram_is_sent_in_fragments_with_a_whole_checksum(version: int, offload: bool) -> None:
    world = World(version, offload=offload)
    key = FlowKey(GUESTS[version], 4000, GATEWAYS[version], 53)
    assert world.stack.send_datagram(key, b"x" * 4000)
    packets = world.turn()
    assert len(packets) == 3
    held = world.stack.reassembly
    whole = [held.put(packet, 0.0) for packet in packets][-1]
    assert whole is not None
    assert len(udp.parse(whole).payload) == 4000
    assert not world.stack.send_datagram(key, b"x" * 65508)


@VERSIONS
def test_fragments_of_the_guest_are_put_together_before_anyone_sees_them(version: int) -> None:
    world = World(version)
    form = ipv4 if version == 4 else ipv6
    addresses = GUESTS[version] + GATEWAYS[version]
    for port in (53, 54):
        datagram = udp.emit(addresses, 4000, port, b"y" * 3000)
        for piece in form.fragments(addresses, ip.UDP, datagram, 1280, port):
            world.guest.send(piece)
    [(source, _, _, quote)] = world.icmp()
    assert world.datagrams == [(FlowKey(GUESTS[version], 4000, GATEWAYS[version], 53), b"y" * 3000)]
    assert source == GATEWAYS[version]
    assert quote[: len(form.emit(addresses, 17, 0))][-8:] == addresses[-8:]


def test_a_super_packet_of_datagrams_is_cut() -> None:
    world = World()
    datagram = udp.emit(GUESTS[4] + GATEWAYS[4], 4000, 53, b"aaabbbc", partial=True)
    packet = ipv4.emit(GUESTS[4] + GATEWAYS[4], ip.UDP, len(datagram)) + datagram
    header = vnet.emit(vnet.NEEDS_CSUM, vnet.GSO_UDP_L4, 28, 3, 20, 6)
    world.guest.send(packet, header)
    world.guest.send(packet, vnet.emit(vnet.NEEDS_CSUM, vnet.GSO_UDP_L4, 28, 0, 20, 6))
    assert world.turn() == []
    assert [payload for _, payload in world.datagrams] == [b"aaa", b"bbb", b"c"]
    assert world.stack.counters.dropped == {"udp: impossible super-packet": 1}


def test_the_datagrams_of_a_super_packet_are_bounded() -> None:
    world = World()
    addresses = GUESTS[4] + GATEWAYS[4]
    for count in (MAX_SEGMENTS, MAX_SEGMENTS + 1):
        datagram = udp.emit(addresses, 4000, 53, b"ab" * (count - 1) + b"c", partial=True)
        packet = ipv4.emit(addresses, ip.UDP, len(datagram)) + datagram
        world.guest.send(packet, vnet.emit(vnet.NEEDS_CSUM, vnet.GSO_UDP_L4, 28, 2, 20, 6))
    assert world.turn() == []
    assert len(world.datagrams) == MAX_SEGMENTS
    assert world.stack.counters.dropped == {"udp: impossible super-packet": 1}


class Watching(World):
    def __init__(self, version: int) -> None:
        super().__init__(version)
        self.may_fragment: list[bool] = []

    def udp_arrived(self, key: FlowKey, payload: memoryview) -> bool:
        self.may_fragment.append(self.stack.datagram_may_fragment)
        return True


@VERSIONS
def test_a_datagram_that_came_in_fragments_may_go_in_fragments_and_the_next_one_may_not(version: int) -> None:
    world = Watching(version)
    form = ipv4 if version == 4 else ipv6
    addresses = GUESTS[version] + GATEWAYS[version]
    for piece in form.fragments(addresses, ip.UDP, udp.emit(addresses, 1, 2, b"y" * 3000), 1280, 5):
        world.guest.send(piece)
    world.guest.send_datagram(GATEWAYS[version], (1, 2), b"whole")
    world.turn()
    assert world.may_fragment == [True, False]


@pytest.mark.parametrize("flags", [0, ipv4.DONT_FRAGMENT])
def test_an_ipv4_datagram_says_by_itself_whether_it_may(flags: int) -> None:
    world = Watching(4)
    addresses = GUESTS[4] + GATEWAYS[4]
    data = udp.emit(addresses, 1, 2, b"x")
    world.guest.send(ipv4.emit(addresses, ip.UDP, len(data), flags=flags) + data)
    world.turn()
    assert world.may_fragment == [not flags]
