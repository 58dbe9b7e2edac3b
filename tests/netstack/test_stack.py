# SPDX-License-Identifier: GPL-3.0-or-later
"""The stack around TCP: what it answers, what it refuses, what it drops, and what it counts."""

from __future__ import annotations

import pytest

from tests.netstack.addresses import GATEWAYS, GROUPS, GUESTS, REMOTES, VERSIONS
from tests.netstack.world import World
from torbox.netstack import icmp, stack
from torbox.netstack.flow import Refusal
from torbox.netstack.stack import StackConfig
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.tcp.state import State
from torbox.netstack.wire import icmpv4, icmpv6, ip, ipv4, ipv6, tcp, vnet


def test_tcp_in_fragments_is_put_together_too() -> None:
    world = World()
    segment = tcp.emit(GUESTS[4] + REMOTES[4], bytes((1, 1, 0, 80)), 7, 0, tcp.SYN, 500, b"\1" * 20)[20:]
    for piece in ipv4.fragments(GUESTS[4] + REMOTES[4], ip.TCP, segment, 44, 5):
        world.guest.send(piece)
    world.turn()
    assert [connection.key.remote_port for connection in world.opened] == [80]


# ICMP


@VERSIONS
def test_the_gateway_answers_echo(version: int) -> None:
    world = World(version)
    world.guest.send_echo(GATEWAYS[version], 0x12345678, b"are you there")
    [packet] = world.turn()
    assert packet.addresses == GATEWAYS[version] + GUESTS[version]
    message = icmpv4.parse(packet) if version == 4 else icmpv6.parse(packet)
    assert message.type == (icmpv4.ECHO_REPLY if version == 4 else icmpv6.ECHO_REPLY)
    assert (message.rest, bytes(message.body)) == (0x12345678, b"are you there")


@VERSIONS
def test_an_echo_larger_than_the_mtu_is_answered_in_fragments(version: int) -> None:
    """As its request came; what the device is given is never larger than it carries."""
    world = World(version)
    addresses = GUESTS[version] + GATEWAYS[version]
    if version == 4:
        request = icmpv4.emit(icmpv4.ECHO_REQUEST, 0, 7, bytes(3000))
        pieces = ipv4.fragments(addresses, ip.ICMPV4, request, 1500, 5)
    else:
        request = icmpv6.emit(addresses, icmpv6.ECHO_REQUEST, 0, 7, bytes(3000))
        pieces = ipv6.fragments(addresses, ip.ICMPV6, request, 1500, 5)
    for piece in pieces:
        world.guest.send(piece)
    packets = world.turn()
    assert [packet.end - packet.header <= 1500 for packet in packets] == [True] * 3
    whole = [world.stack.reassembly.put(packet, world.now) for packet in packets][-1]
    assert whole is not None
    message = icmpv4.parse(whole) if version == 4 else icmpv6.parse(whole)
    assert (message.rest, bytes(message.body)) == (7, bytes(3000))


@VERSIONS
def test_echo_of_the_world_is_prohibited_by_the_gateway(version: int) -> None:
    world = World(version)
    world.guest.send_echo(REMOTES[version], 1, b"x" * 2000)
    [(source, type_, code, quote)] = world.icmp()
    assert source == GATEWAYS[version]
    assert (type_, code) == ((3, 13) if version == 4 else (1, 1))
    assert len(quote) == (icmpv4.MAX_QUOTE if version == 4 else icmpv6.MAX_QUOTE)


@VERSIONS
def test_echo_of_the_world_can_be_answered_where_that_is_wanted(version: int) -> None:
    world = World(version, config=StackConfig(echo_any=True))
    world.guest.send_echo(REMOTES[version], 1, b"x")
    [packet] = world.turn()
    assert packet.source == REMOTES[version]


def test_a_protocol_nobody_speaks_is_refused() -> None:
    world = World(4)
    world.guest.send_ip(REMOTES[4], 132, bytes(20))
    [(source, type_, code, _)] = world.icmp()
    assert (source, type_, code) == (REMOTES[4], 3, 2)
    world = World(6)
    body = bytes((132, 0, 1, 4, 0, 0, 0, 0)) + bytes(20)
    world.guest.send_ip(REMOTES[6], ipv6.DESTINATION_OPTIONS, body)
    [packet] = world.turn()
    message = icmpv6.parse(packet)
    assert (message.type, message.code) == (icmpv6.PARAMETER_PROBLEM, icmpv6.UNKNOWN_NEXT_HEADER)
    assert message.rest == 40  # the byte that said 132


def test_errors_are_rationed() -> None:
    world = World()
    for _ in range(icmp.ERRORS_BURST + 7):
        world.guest.send_datagram(REMOTES[4], (4000, 443), b"")
    assert len(world.icmp()) == icmp.ERRORS_BURST
    assert world.stack.counters.errors_suppressed == 7
    world.now += 1.5 / icmp.ERRORS_PER_S
    world.guest.send_datagram(REMOTES[4], (4000, 443), b"")
    assert len(world.icmp()) == 1


@VERSIONS
def test_a_refusal_that_may_not_be_said_by_icmp_is_a_reset(version: int) -> None:
    world = World(version)
    for _ in range(icmp.ERRORS_BURST):
        world.guest.send_datagram(REMOTES[version], (4000, 443), b"")
    world.guest.send_segment(REMOTES[version], (4000, 80), 1, 0, tcp.SYN, 100)
    world.turn()
    world.stack.refuse(world.opened[0], Refusal.HOST_UNREACHABLE)
    [packet] = world.turn()
    assert packet.protocol == ip.TCP


# What is dropped


@VERSIONS
def test_what_is_for_many_hosts_is_dropped_in_silence(version: int) -> None:
    world = World(version)
    world.guest.send_datagram(GROUPS[version], (5353, 5353), b"mdns")
    world.guest.send_echo(GROUPS[version], 1, b"")
    world.guest.send_segment(GROUPS[version], (4000, 80), 1, 0, tcp.SYN, 100)
    assert world.turn() == []
    assert world.stack.counters.dropped == {"not between two hosts": 2, "tcp: not between two hosts": 1}


def test_router_solicitations_and_reports_are_dropped_in_silence() -> None:
    world = World(6)
    routers = bytes.fromhex("ff02" + "00" * 13 + "02")
    addresses = world.guest.address + routers
    world.guest.send_ip(routers, ip.ICMPV6, icmpv6.emit(addresses, 133, 0, 0, b""))
    report = icmpv6.emit(addresses, 143, 0, 0, bytes(20))
    hop_by_hop = bytes((ip.ICMPV6, 0, 5, 2, 0, 0, 1, 0))
    world.guest.send_ip(routers, ipv6.HOP_BY_HOP, hop_by_hop + report)
    assert world.turn() == []
    assert world.stack.counters.dropped == {"not between two hosts": 2}


def test_broadcasts_are_dropped_in_silence() -> None:
    world = World()
    for address in ((10, 0, 2, 255), (255, 255, 255, 255)):
        world.guest.send_datagram(bytes(address), (68, 67), b"dhcp")
        world.guest.send_segment(bytes(address), (4000, 80), 1, 0, tcp.SYN, 100)
    assert world.turn() == []
    assert sum(world.stack.counters.dropped.values()) == 4


@pytest.mark.parametrize("source", [(0, 0, 0, 0), (224, 0, 0, 1), (255, 255, 255, 255), (10, 0, 2, 2)])
def test_a_source_that_can_be_nobody_opens_nothing(source: tuple[int, ...]) -> None:
    world = World()
    world.guest.address = bytes(source)
    world.guest.send_segment(REMOTES[4], (4000, 80), 1, 0, tcp.SYN, 100)
    world.guest.send_segment(REMOTES[4], (4000, 80), 1, 1, tcp.ACK, 100)
    assert world.turn() == []
    assert world.opened == []


@VERSIONS
def test_what_is_not_from_the_guests_addresses_where_they_are_known_is_dropped(version: int) -> None:
    """IPV6_FREEBIND lets any program send from any address: SYNs, say, that nobody will acknowledge."""
    guests = (*GUESTS.values(),)
    world = World(version, config=StackConfig(guests=guests))
    for address in (GUESTS[version][:-1] + b"\x07", GUESTS[version]):
        world.guest.address = address
        world.guest.send_segment(REMOTES[version], (4000, 80), 1, 0, tcp.SYN, 100)
        world.guest.send_segment(REMOTES[version], (4001, 80), 1, 1, tcp.ACK, 100)
        world.guest.send_datagram(GATEWAYS[version], (4000, 53), b"name?")
        world.guest.send_echo(GATEWAYS[version], 1, b"")
        answers = world.turn()
        assert bool(answers) is (address == GUESTS[version])
    assert world.stack.counters.dropped == {"not from the guest": 4}
    assert [connection.key.guest_address for connection in world.opened] == [GUESTS[version]]
    assert [key.guest_address for key, _ in world.datagrams] == [GUESTS[version]]
    assert len(answers) == 2


def test_icmp_errors_are_not_answered() -> None:
    world = World()
    world.guest.send_ip(REMOTES[4], ip.ICMPV4, icmpv4.emit(3, 3, 0, bytes(28)))
    assert world.turn() == []
    assert world.stack.counters.dropped == {"icmp: quotes no packet": 1}


def test_nothing_follows_no_next_header() -> None:
    world = World(6)
    world.guest.send_ip(REMOTES[6], ip.NO_NEXT_HEADER, b"")
    assert world.turn() == []


@pytest.mark.parametrize(
    "frame", [bytes(1), bytes(10), bytes(11), bytes(40), bytes(10) + b"\x60" + bytes(39)]
)
def test_frames_that_are_nothing_are_counted_and_dropped(frame: bytes) -> None:
    world = World()
    world.device.from_guest.append(frame)
    world.guest.send_echo(GATEWAYS[4], 1, b"")
    assert len(world.turn()) == 1
    assert world.stack.counters.packets_from_guest == 2
    assert sum(world.stack.counters.dropped.values()) == 1


def test_a_wrong_checksum_is_dropped_unless_it_was_left_to_hardware() -> None:
    world = World()
    syn = bytearray(tcp.emit(GUESTS[4] + REMOTES[4], bytes((1, 1, 0, 80)), 7, 0, tcp.SYN, 500))
    syn[-1] ^= 1
    world.guest.send(bytes(syn))
    world.turn()
    assert world.stack.counters.dropped == {"tcp: wrong checksum": 1}
    world.guest.send(bytes(syn), vnet.emit(vnet.NEEDS_CSUM, csum_start=20, csum_offset=16))
    world.turn()
    assert len(world.opened) == 1


# To the guest


@VERSIONS
@pytest.mark.parametrize("offload", [True, False])
def test_the_virtio_header_says_what_the_kernel_is_to_do(version: int, offload: bool) -> None:
    world = World(version, offload=offload)
    world.guest.send_segment(REMOTES[version], (4000, 80), 1, 0, tcp.SYN, 65535, b"\2\4\x05\x00")
    world.turn()
    connection = world.opened[0]
    connection.accept()
    world.stack.flush(world.now)
    received = world.guest.received()
    assert received is not None
    iss = tcp.parse(received[1], verify=not offload).seq
    world.guest.send_segment(REMOTES[version], (4000, 80), 2, iss + 1, tcp.ACK, 65535)
    world.turn()
    connection.snd_buf.write(b"z" * 3001)
    world.stack.mark(connection)
    world.stack.flush(world.now)
    headers = []
    while received := world.guest.received():
        header, packet = received
        segment = tcp.parse(packet, verify=not offload)
        headers.append((header.flags, header.gso_type, header.gso_size, len(segment.data)))
        if offload:
            ip_size = 20 if version == 4 else 40
            assert (header.csum_start, header.csum_offset, header.hdr_len) == (ip_size, 16, ip_size + 20)
    gso_type = vnet.GSO_TCPV4 if version == 4 else vnet.GSO_TCPV6
    if offload:
        assert headers == [(vnet.NEEDS_CSUM, gso_type, 1280, 3001)]
    else:
        assert headers == [(0, 0, 0, 1280), (0, 0, 0, 1280), (0, 0, 0, 441)]


def test_a_device_without_room_is_counted_and_what_was_lost_is_sent_again() -> None:
    world = World()
    world.guest.send_segment(REMOTES[4], (4000, 80), 1, 0, tcp.SYN, 65535)
    world.turn()
    world.device.full = True
    world.opened[0].accept()
    assert world.turn() == []
    assert world.stack.counters.unsent == 1
    world.device.full = False
    world.now = world.stack.deadline + 0.001
    world.stack.expire(world.now)
    assert len(world.turn()) == 1


# Bounds


def test_a_batch_is_bounded() -> None:
    world = World()
    for _ in range(stack.BATCH + 1):
        world.guest.send_echo(GATEWAYS[4], 1, b"")
    assert world.stack.receive(world.now)
    assert len(world.device.from_guest) == 1
    assert not world.stack.receive(world.now)


def test_connections_are_bounded() -> None:
    world = World(config=StackConfig(max_connections=3))
    for port in range(5):
        world.guest.send_segment(REMOTES[4], (1000 + port, 80), 1, 0, tcp.SYN, 65535)
    world.turn()
    assert list(world.stack.connections.values()) == world.opened
    assert [connection.key.guest_port for connection in world.opened] == [1000, 1001, 1002]
    assert world.stack.counters.dropped == {"tcp: too many connections": 2}


def handshake(world: World, port: int) -> TcpConnection:
    world.guest.send_segment(REMOTES[4], (port, 80), 1, 0, tcp.SYN, 65535)
    world.turn()
    connection = world.opened[-1]
    connection.accept()
    [packet] = world.turn()
    iss = tcp.parse(packet, verify=False).seq
    world.guest.send_segment(REMOTES[4], (port, 80), 2, (iss + 1) & 0xFFFFFFFF, tcp.ACK, 65535)
    world.turn()
    assert connection.state is State.ESTABLISHED
    return connection


def time_wait(world: World, port: int) -> TcpConnection:
    connection = handshake(world, port)
    connection.close()
    [packet] = world.turn()
    fin = tcp.parse(packet, verify=False)
    ack = (fin.seq + 1) & 0xFFFFFFFF
    world.guest.send_segment(REMOTES[4], (port, 80), 2, ack, tcp.ACK | tcp.FIN, 65535)
    world.turn()
    assert connection.state is State.TIME_WAIT
    return connection


def test_time_wait_is_bounded_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "MAX_TIME_WAIT", 3)
    world = World()
    connections = [time_wait(world, 1000 + number) for number in range(5)]
    assert list(world.stack.connections.values()) == connections[2:]
    assert world.stack.counters.time_wait_cut == 2


def test_a_connection_whose_ports_are_used_again_is_over_even_if_its_owner_marks_it() -> None:
    """Found by fuzzing: marked in the same turn, it came back into the tables without a name."""
    world = World()
    old = time_wait(world, 1000)
    world.guest.send_segment(REMOTES[4], (1000, 80), 2, old.sender.max, tcp.ACK | tcp.FIN, 65535)
    world.guest.send_segment(REMOTES[4], (1000, 80), 5000, 0, tcp.SYN, 65535)
    world.turn()
    assert old.state is State.CLOSED
    assert not old.was_reset
    world.stack.mark(old)
    world.turn()
    assert list(world.stack.connections.values()) == world.opened[1:]
    assert not world.stack._time_wait
    assert old.scheduled is None


def test_a_connection_that_leaves_time_wait_at_the_bound_stays_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "MAX_TIME_WAIT", 1)
    world = World()
    old, new = time_wait(world, 1000), time_wait(world, 1001)
    world.stack.mark(old)
    world.turn()
    assert list(world.stack._time_wait) == [new]
    assert old.state is State.CLOSED
    assert not old.was_reset
    assert world.stack.counters.time_wait_cut == 1


def test_refusals_by_silence_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "MAX_SILENCED", 3)
    world = World()
    for _ in range(2):
        for port in range(5):
            world.guest.send_segment(REMOTES[4], (1000 + port, 80), 1, 0, tcp.SYN, 65535)
        world.turn()
        for connection in world.opened[-5:]:
            if connection.state is State.SYN_RECEIVED:
                world.stack.refuse(connection, Refusal.TIMED_OUT)
        assert world.turn() == []
    assert len(world.opened) == 5 + 2  # the two oldest were forgotten, so they were tried anew
    assert world.stack.counters.dropped == {"tcp: repeated after a refusal by silence": 3}
    assert world.stack.counters.silenced_forgotten == 2 + 2


def test_the_same_two_ends_are_not_connected_twice() -> None:
    world = World(config=StackConfig(max_connections=2))
    connection = handshake(world, 1000)
    assert world.stack.connect(connection.key) is None
    assert world.stack.connect(connection.key._replace(guest_port=2000)) is not None
    assert world.stack.connect(connection.key._replace(guest_port=3000)) is None


def test_a_thousand_short_connections_leave_nothing_behind() -> None:
    world = World()
    for i in range(1000):
        connection = handshake(world, 1000 + i)
        world.guest.send_segment(REMOTES[4], (1000 + i, 80), 2, 0, tcp.RST, 0)
        world.turn()
        assert connection.was_reset
        world.opened.clear()
    assert not world.stack.connections
    assert not world.stack.half_open
    assert not world.stack.dirty
    assert len(world.stack.timers) <= 2048
    world.stack.expire(world.now + 1000)
    assert len(world.stack.timers) == 0
