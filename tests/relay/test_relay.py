# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay with a guest at one end and SOCKS servers, block or nothing at the other."""

from __future__ import annotations

import random
import socket

import pytest

from tests.relay.guest import (
    GATEWAY,
    SITE,
    World,
    blocked,
    is_reset,
    query,
    rcode_and_data,
    read,
    tor_at,
    world,
    write,
)
from tests.upstream.harness import no_descriptors
from tests.upstream.socks_server import TorLike, echo, serving
from torbox.netstack.flow import Refusal
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.tcp.state import State
from torbox.relay.policy import Rules, network
from torbox.upstream.registry import open_upstream, parse_url
from torbox.upstream.tor import new_isolation

SITE6 = bytes.fromhex("26064700") + bytes(11) + b"\x01"
BLOCK = random.Random(2).randbytes(1 << 20)


def name_address(it: World, name: bytes) -> bytes:
    rcode, address = rcode_and_data(it.ask(query(name)))
    assert rcode == 0
    return address


@pytest.mark.parametrize("address", [SITE, SITE6], ids=["v4", "v6"])
def test_a_connection_goes_out_echoes_and_ends_in_good_order(address: bytes) -> None:
    tor = TorLike(echo)
    with serving(tor) as server, world(tor_at(server)) as it:
        connection = it.opened(address, 443)
        assert write(connection, b"hello") == 5
        it.until(lambda: len(connection.rcv_buf) == 5)
        assert read(connection) == b"hello"
        connection.close()
        it.until(lambda: connection.state in (State.TIME_WAIT, State.CLOSED))
        assert not connection.was_reset
        it.until(lambda: it.relay.counters.flows == 0)
        assert it.relay.counters.opened == 1
    assert [(asked.where, asked.port) for asked in tor.requests] == [(address, 443)]


def test_a_name_of_the_pool_goes_out_as_a_name() -> None:
    tor = TorLike(echo)
    onion = b"x" * 56 + b".onion"
    with serving(tor) as server, world(tor_at(server)) as it:
        for name in (b"site.example", onion):
            it.opened(name_address(it, name))
        stranger = it.guest.connect(bytes((198, 19, 255, 254)))
        it.until(lambda: it.guest.device.errors)
        assert it.guest.device.errors == [(4, 3, 1)]  # host unreachable
        stranger.abort()
    assert [(asked.kind, asked.where) for asked in tor.requests] == [(3, b"site.example"), (3, onion)]


def test_with_real_addresses_names_are_resolved_by_tor_and_connected_to_as_addresses() -> None:
    tor = TorLike(echo, names={b"site.example": SITE})
    with serving(tor) as server, world(tor_at(server), dns_mode="tor") as it:
        assert rcode_and_data(it.ask(query(b"site.example"))) == (0, SITE)
        assert rcode_and_data(it.ask(query(b"none.example")))[0] == 3
        it.opened(SITE)
    assert [asked.where for asked in tor.requests] == [b"site.example", b"none.example", SITE]


def test_a_name_that_resolves_to_a_private_address_is_not_connected_to() -> None:
    """DNS rebinding: the exit says 127.0.0.1, and that is judged like any address."""
    tor = TorLike(echo, names={b"evil.example": bytes((192, 168, 1, 1))})
    with serving(tor) as server, world(tor_at(server), dns_mode="tor") as it:
        address = name_address(it, b"evil.example")
        it.guest.connect(address)
        it.until(lambda: it.guest.device.errors)
        assert it.guest.device.errors == [(4, 3, 13)]  # administratively prohibited
    assert [asked.command for asked in tor.requests] == [0xF0]


@pytest.mark.parametrize(
    ("address", "error"),
    [
        (bytes((127, 0, 0, 1)), (4, 3, 13)),
        (bytes((169, 254, 169, 254)), (4, 3, 13)),
        (bytes((192, 168, 0, 1)), (4, 3, 13)),
        (bytes.fromhex("fe800000000000000000000000000001"), (6, 1, 1)),
        (bytes.fromhex("0064ff9b00000000000000007f000001"), (6, 1, 1)),
    ],
)
def test_special_addresses_are_prohibited_before_anything_is_asked(
    address: bytes, error: tuple[int, int, int]
) -> None:
    tor = TorLike(echo)
    with serving(tor) as server, world(tor_at(server)) as it:
        it.guest.connect(address)
        it.until(lambda: it.guest.device.errors)
        assert it.guest.device.errors == [error]
        assert it.relay.counters.refused[Refusal.PROHIBITED] == 1
        assert it.relay.counters.opened == 0
    assert tor.requests == []


@pytest.mark.parametrize("port", [1, 22, 80, 8080])
def test_other_ports_of_the_gateway_are_refused_at_once(port: int) -> None:
    with world(blocked) as it:
        connection = it.guest.connect(GATEWAY, port)
        it.until(lambda: is_reset(connection))
        assert it.guest.device.errors == []


def test_udp_to_anyone_else_is_refused_at_once() -> None:
    with world(blocked) as it:
        it.guest.send_datagram(SITE, 443, b"QUIC")
        it.guest.send_datagram(SITE, 53, query(b"a.example"))
        it.guest.send_datagram(GATEWAY, 123, b"NTP")
        it.until(lambda: len(it.guest.device.errors) == 3)
        assert set(it.guest.device.errors) == {(4, 3, 3)}  # port unreachable
        assert it.relay.counters.queries == 0


@pytest.mark.parametrize(
    ("code", "error"),
    [(0x02, (4, 3, 13)), (0x03, (4, 3, 0)), (0x04, (4, 3, 1)), (0xF0, (4, 3, 1))],
)
def test_a_refusal_of_tor_reaches_the_guest_as_icmp(code: int, error: tuple[int, int, int]) -> None:
    with serving(TorLike(refuse=code)) as server, world(tor_at(server)) as it:
        it.guest.connect(SITE)
        it.until(lambda: it.guest.device.errors)
        assert it.guest.device.errors == [error]
        assert it.relay.counters.flows == 0


@pytest.mark.parametrize("code", [0x05, 0x01])  # 0x01: what Tor says of most closed ports
def test_a_closed_port_is_a_reset(code: int) -> None:
    with serving(TorLike(refuse=code)) as server, world(tor_at(server)) as it:
        connection = it.guest.connect(SITE)
        it.until(lambda: is_reset(connection))


def test_a_time_out_is_silence() -> None:
    with serving(TorLike(refuse=0xF7)) as server, world(tor_at(server)) as it:
        connection = it.guest.connect(SITE)
        it.until(lambda: it.relay.counters.refused[Refusal.TIMED_OUT])
        it.turn()
        assert connection.state is State.SYN_SENT
        assert it.guest.device.errors == []


def test_without_a_tor_the_network_is_unreachable() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = parse_url(f"tor://127.0.0.1:{closed.getsockname()[1]}")
        with world(lambda reactor: open_upstream(url, reactor, new_isolation())) as it:
            it.guest.connect(SITE)
            it.until(lambda: it.guest.device.errors)
            assert it.guest.device.errors == [(4, 3, 0)]


def test_with_block_everything_is_prohibited() -> None:
    with world(blocked) as it:
        it.guest.connect(name_address(it, b"site.example"))
        it.until(lambda: it.guest.device.errors)
        assert it.guest.device.errors == [(4, 3, 13)]


def test_without_descriptors_connections_are_unreachable_and_the_relay_lives() -> None:
    with serving(TorLike(echo)) as server, world(tor_at(server)) as it:
        with no_descriptors():
            it.guest.connect(SITE)
            it.until(lambda: it.guest.device.errors)
        assert it.guest.device.errors == [(4, 3, 0)]
        it.opened(SITE)


def test_rules_allow_and_deny_beyond_the_special_ranges() -> None:
    tor = TorLike(echo)
    rules = Rules(allowed=(network("10.9.0.0/16"),), denied=(network("93.184.0.0/16"),))
    with serving(tor) as server, world(tor_at(server), rules=rules) as it:
        it.opened(bytes((10, 9, 1, 1)))
        it.guest.connect(SITE)
        it.until(lambda: it.guest.device.errors)
        assert it.guest.device.errors == [(4, 3, 13)]
    assert len(tor.requests) == 1


def test_a_connection_marked_while_another_is_pumped_is_pumped_in_the_next_turn() -> None:
    with serving(TorLike(echo)) as server, world(tor_at(server)) as it:
        first, second = it.opened(SITE), it.opened(SITE)
        outside: list[TcpConnection] = list(it.relay.stack.connections.values())
        pumped: list[int] = []

        class Meddler:
            """A flow that marks the one before it, which was pumped already."""

            def __init__(self, index: int, inner: object) -> None:
                self.index = index
                self.inner = inner

            def pump(self) -> bool:
                pumped.append(self.index)
                if self.index == 1 and pumped.count(1) == 1:
                    it.relay.mark(outside[0])
                return bool(self.inner.pump())  # type: ignore[attr-defined]

            def close(self) -> None:
                self.inner.close()  # type: ignore[attr-defined]

        flows = [connection.owner for connection in outside]
        for index, connection in enumerate(outside):
            connection.owner = Meddler(index, flows[index])
            it.relay.mark(connection)
        it.relay.turn(it.relay.reactor.now)
        assert pumped == [0, 1]
        assert it.relay.busy
        it.relay.turn(it.relay.reactor.now)
        assert pumped == [0, 1, 0]
        for connection, flow in zip(outside, flows, strict=True):
            connection.owner = flow
        first.abort()
        second.abort()
