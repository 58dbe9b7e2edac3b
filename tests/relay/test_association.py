# SPDX-License-Identifier: GPL-3.0-or-later
"""UDP flows: who gets a way out, who may answer, and when it ends; with a clock of the test's own."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.relay.guest import GATEWAY, GUEST, GUEST6, SITE, World, blocked, query, world
from torbox.netstack.flow import FlowKey, Refusal
from torbox.netstack.stack import Stack, StackConfig
from torbox.netstack.testing import MemoryDevice
from torbox.netstack.wire import icmpv4, ip, ipv4, udp, vnet
from torbox.netstack.wire import quote as quotes
from torbox.relay import association
from torbox.relay.association import ASKED_ONCE_S, JUDGED_S, LASTING_S, Associations
from torbox.relay.counters import RelayCounters
from torbox.relay.policy import Rules
from torbox.relay.reactor import Reactor
from torbox.upstream.direct import DirectUpstream
from torbox.upstream.interface import DatagramOwner, NoDatagrams, Upstream

OTHER = bytes((198, 51, 100, 7))
SITE6 = bytes.fromhex("20010db8" + "00" * 11 + "07")
LOOPBACK = bytes((127, 0, 0, 1))


class Way:
    """Datagrams that go nowhere; `sent` is what went, `refusals` what to say to addresses."""

    def __init__(self, upstream: Carrier, owner: DatagramOwner) -> None:
        self.upstream = upstream
        self.owner = owner
        self.sent: list[tuple[bytes, int, bytes, bool]] = []
        self.closed = False

    def admits(self, address: bytes) -> Refusal | None:
        return self.upstream.refusals.get(address)

    def send(self, address: bytes, port: int, payload: memoryview, may_fragment: bool) -> Refusal | None:
        self.sent.append((address, port, bytes(payload), may_fragment))
        return self.upstream.failures.get(address)

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class Carrier:
    """An upstream for datagrams; `ways` are those it opened."""

    takes_datagrams = True

    def __init__(self) -> None:
        self.ways: list[Way] = []
        self.refusals: dict[bytes, Refusal] = {}
        self.failures: dict[bytes, Refusal] = {}
        self.error: OSError | None = None

    def open_datagrams(self, family: int, owner: DatagramOwner) -> Way:
        if self.error is not None:
            raise self.error
        self.ways.append(Way(self, owner))
        return self.ways[-1]


class Flows:
    """Associations, their clock, and what the guest is sent."""

    def __init__(self, limit: int = 4) -> None:
        self.now = 100.0
        self.reactor = Reactor(clock=lambda: self.now)
        self.device = MemoryDevice(1500)
        self.stack = Stack(self.device, self, StackConfig(), self.now)
        self.counters = RelayCounters()
        self.carrier = Carrier()
        self.judged: list[bytes] = []
        self.verdicts: dict[bytes, Refusal] = {}
        self.table = Associations(
            self.carrier,  # type: ignore[arg-type]
            self._judge,
            {GATEWAY: LOOPBACK},
            self.reactor,
            self.stack,
            self.counters,
            limit,
        )

    def _judge(self, address: bytes, port: int) -> Refusal | None:
        self.judged.append(address)
        return self.verdicts.get(address)

    def tcp_opened(self, connection: object) -> None: ...

    def udp_arrived(self, key: FlowKey, payload: memoryview) -> bool:
        return False

    def send(self, port: int, address: bytes = SITE, payload: bytes = b"x") -> bool:
        guest = GUEST if len(address) == 4 else GUEST6
        return self.table.send(FlowKey(guest, port, address, 443), memoryview(payload), False)

    def answer(self, way: int = -1, address: bytes = SITE, port: int = 443) -> None:
        self.carrier.ways[way].owner.arrived(address, port, memoryview(b"answer"))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.reactor.turn(self.now)

    def heard(self) -> list[tuple[ip.Packet, bytes]]:
        """Packets to the guest, each with its payload."""
        packets = []
        while self.device.to_guest:
            frame = memoryview(self.device.to_guest.popleft())[vnet.SIZE :]
            packet = ipv4.parse(frame, 0, len(frame))
            packets.append((packet, bytes(packet.payload)))
        return packets

    def errors(self) -> list[tuple[int, int]]:
        return [(payload[0], payload[1]) for packet, payload in self.heard() if packet.protocol == ip.ICMPV4]


@pytest.fixture
def flows() -> Iterator[Flows]:
    made = Flows()
    yield made
    made.table.close()
    assert all(way.closed for way in made.carrier.ways)
    assert made.counters.associations == len(made.table) == 0
    made.reactor.close()


def test_a_socket_of_the_guests_has_one_way_out_to_all_far_ends(flows: Flows) -> None:
    for address in (SITE, OTHER, SITE):
        assert flows.send(4000, address)
    assert flows.send(4001)
    assert [len(way.sent) for way in flows.carrier.ways] == [3, 1]
    assert flows.counters.associations == 2
    assert flows.counters.datagrams_from_guest == 4


def test_who_was_sent_to_may_answer_from_any_port_and_nobody_else_may(flows: Flows) -> None:
    flows.send(4000)
    flows.answer()
    flows.answer(port=7)
    flows.answer(address=OTHER)
    packets = [packet for packet, _ in flows.heard()]
    assert [packet.addresses for packet in packets] == [SITE + GUEST] * 2
    datagrams = [udp.parse(packet, verify=False) for packet in packets]
    assert [(it.source_port, it.destination_port, bytes(it.payload)) for it in datagrams] == [
        (443, 4000, b"answer"),
        (7, 4000, b"answer"),
    ]
    assert flows.counters.datagrams_filtered == 1
    assert flows.counters.datagrams_to_guest == 2


def test_whoever_asked_once_is_forgotten_after_30_s_answered_or_not(flows: Flows) -> None:
    flows.send(4000)
    flows.send(4001)
    flows.answer()
    flows.pass_time(ASKED_ONCE_S - 0.1)
    assert len(flows.table) == 2
    flows.pass_time(0.2)
    assert len(flows.table) == 0
    assert all(way.closed for way in flows.carrier.ways)


def test_a_conversation_is_kept_for_180_s_after_the_guests_last_word(flows: Flows) -> None:
    flows.send(4000)
    flows.answer()
    flows.send(4000)
    flows.pass_time(LASTING_S - 1)
    flows.answer()
    assert len(flows.table) == 1, "RFC 4787 REQ-5 asks for two minutes"
    assert LASTING_S >= 120
    flows.pass_time(2)
    assert len(flows.table) == 0, "only what the guest sends keeps it, REQ-6"


def test_what_the_guest_sends_keeps_it(flows: Flows) -> None:
    flows.send(4000)
    for _ in range(5):
        flows.pass_time(ASKED_ONCE_S - 1)
        flows.send(4000)
    flows.answer()
    for _ in range(5):
        flows.send(4000)
        flows.pass_time(LASTING_S - 1)
    assert len(flows.carrier.ways) == 1
    flows.pass_time(2)
    assert len(flows.table) == 0


def test_at_the_bound_the_idlest_gives_way_and_who_asked_once_before_who_lasts(flows: Flows) -> None:
    flows.send(4000)
    flows.answer()
    flows.send(4000)  # lasts
    for port in (4001, 4002, 4003):
        flows.send(port)
    flows.send(4001)
    flows.send(4004)
    assert [way.closed for way in flows.carrier.ways] == [False, False, True, False, False]
    for port in range(5000, 5100):
        flows.send(port)
    assert not flows.carrier.ways[0].closed, "a flood of questions does not end a conversation"
    assert len(flows.table) == 4
    assert flows.counters.associations_gave_way == 101


def test_those_that_last_leave_half_to_whoever_asks_once(flows: Flows) -> None:
    """Or a program with a thousand conversations would end each question of another's before its answer."""
    for port in range(4000, 4003):
        flows.send(port)
        flows.answer()
        flows.send(port)
    for port in range(5000, 5004):
        flows.send(port)
    assert [way.closed for way in flows.carrier.ways] == [True, False, False, True, True, False, False]
    assert len(flows.table) == 4


def test_when_all_last_the_idlest_of_them_gives_way(flows: Flows) -> None:
    for port in range(4000, 4004):
        flows.send(port)
        flows.answer()
        flows.send(port)
    flows.send(4000)
    flows.send(5000)
    assert [way.closed for way in flows.carrier.ways] == [False, True, False, False, False]


def test_the_addresses_one_may_be_answered_from_are_bounded(
    flows: Flows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(association, "MAX_PEERS", 3)
    sites = [bytes((93, 184, 215, last)) for last in range(5)]
    for site in [*sites[:3], sites[0], *sites[3:]]:
        flows.send(4000, site)
    for site in sites:
        flows.answer(address=site)
    assert [packet.source for packet, _ in flows.heard()] == [sites[0], sites[3], sites[4]]


@pytest.mark.parametrize(
    ("why", "error"),
    [
        (Refusal.PROHIBITED, [(3, 13)]),
        (Refusal.NET_UNREACHABLE, [(3, 0)]),
        (Refusal.HOST_UNREACHABLE, [(3, 1)]),
        (Refusal.REFUSED, [(3, 3)]),
        (Refusal.TIMED_OUT, []),
    ],
)
def test_what_is_forbidden_is_told_and_opens_nothing(
    flows: Flows, why: Refusal, error: list[tuple[int, int]]
) -> None:
    flows.verdicts[SITE] = why
    assert flows.send(4000)
    assert flows.errors() == error
    assert flows.carrier.ways == []
    flows.send(4000, OTHER)
    flows.carrier.refusals[SITE] = why
    del flows.verdicts[SITE]
    flows.send(4000)
    assert flows.errors() == error
    flows.carrier.failures[OTHER] = why
    flows.send(4000, OTHER)
    assert flows.errors() == error
    assert [address for address, *_ in flows.carrier.ways[0].sent] == [OTHER, OTHER]


def test_a_verdict_holds_for_a_while_and_is_then_asked_for_again(flows: Flows) -> None:
    """This machine may be given an address that it did not have."""
    for _ in range(5):
        flows.send(4000)
    assert flows.judged == [SITE]
    flows.carrier.refusals[SITE] = Refusal.TIMED_OUT
    flows.pass_time(JUDGED_S + 1)
    flows.send(4000)
    assert flows.judged == [SITE, SITE]
    assert len(flows.carrier.ways[0].sent) == 5
    flows.answer()
    assert flows.heard() == []


def test_the_gateway_stands_for_loopback_both_ways_and_is_not_judged(flows: Flows) -> None:
    flows.verdicts[GATEWAY] = flows.verdicts[LOOPBACK] = Refusal.PROHIBITED
    assert flows.table.takes(GATEWAY)
    assert not flows.table.takes(SITE)
    flows.send(4000, GATEWAY)
    assert flows.carrier.ways[0].sent == [(LOOPBACK, 443, b"x", False)]
    flows.answer(address=LOOPBACK)
    [(packet, _)] = flows.heard()
    assert packet.source == GATEWAY
    flows.carrier.ways[0].owner.unreachable(LOOPBACK, 443, Refusal.REFUSED)
    [(packet, _)] = flows.heard()
    assert packet.source == GATEWAY
    quote = quotes.parse(4, icmpv4.parse(packet).body)
    assert quote.addresses == GUEST + GATEWAY


def test_errors_of_the_network_are_told_if_they_are_about_the_guests_datagrams(flows: Flows) -> None:
    flows.send(4000)
    owner = flows.carrier.ways[0].owner
    owner.unreachable(SITE, 443, Refusal.REFUSED)
    owner.too_big(SITE, 443, 1400)
    owner.unreachable(OTHER, 443, Refusal.REFUSED)
    owner.too_big(OTHER, 443, 1400)
    assert flows.errors() == [(3, 3), (3, 4)]


def test_a_guest_that_takes_no_answers_any_more_has_no_way_out_any_more(flows: Flows) -> None:
    flows.send(4000)
    flows.send(4001)
    flows.answer(0)
    [(packet, _)] = flows.heard()
    whole = bytes(packet.buffer[: packet.end])
    error = icmpv4.emit(icmpv4.UNREACHABLE, icmpv4.PORT_UNREACHABLE, 0, whole)
    flows.stack.datagram_refused = flows.table.refused_by_guest
    for _ in range(2):
        flows.device.from_guest.append(
            vnet.NONE + ipv4.emit(GUEST + SITE, ip.ICMPV4, len(error)) + error,
        )
    flows.stack.receive(flows.now)
    assert [way.closed for way in flows.carrier.ways] == [True, False]


def test_for_want_of_a_socket_a_datagram_is_lost_and_counted(flows: Flows) -> None:
    flows.carrier.error = OSError(24, "Too many open files")
    assert flows.send(4000)
    assert flows.counters.datagrams_lost == 1
    assert flows.heard() == []
    flows.carrier.error = None
    assert flows.send(4000)
    assert len(flows.carrier.ways[0].sent) == 1


def test_an_upstream_that_carries_no_datagrams_refuses_them_at_once() -> None:
    with world(blocked) as it:
        it.guest.send_datagram(SITE, 443, b"quic")
        it.until(lambda: it.guest.device.errors)
        assert it.guest.device.errors == [(4, 3, 3)]
    with pytest.raises(NotImplementedError):
        NoDatagrams().open_datagrams(4, Way(Carrier(), None).owner)  # type: ignore[arg-type]


# With sockets


def test_at_the_bound_sockets_are_let_go_as_fast_as_they_are_opened(flows: Flows) -> None:
    upstream = DirectUpstream(flows.reactor)
    registered = len(flows.reactor)
    table = Associations(
        upstream,
        lambda address, port: None,
        {GATEWAY: LOOPBACK},
        flows.reactor,
        flows.stack,
        flows.counters,
        8,
    )
    for port in range(1000, 1300):
        table.send(FlowKey(GUEST, port, GATEWAY, 9), memoryview(b"x"), False)
    assert len(table) == len(upstream) == 8
    assert len(flows.reactor) == registered + 8
    assert flows.counters.associations_gave_way == 292
    table.close()
    assert len(upstream) == 0
    assert len(flows.reactor) == registered
    upstream.close()


def direct(reactor: Reactor) -> Upstream:
    return DirectUpstream(reactor)


def until_heard(it: World, far: socket.socket) -> tuple[bytes, tuple[str, int]]:
    found: list[tuple[bytes, tuple[str, int]]] = []

    def look() -> bool:
        with contextlib.suppress(BlockingIOError):
            found.append(far.recvfrom(1 << 16))
        return bool(found)

    it.until(look)
    return found[0]


def test_a_datagram_reaches_the_hosts_loopback_through_the_gateway_and_is_answered() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", 0))
        far.setblocking(False)
        port = far.getsockname()[1]
        with world(direct, loopback={GATEWAY: LOOPBACK}) as it:
            for size in (1, 9000, 60_000):
                it.guest.datagrams.clear()
                it.guest.send_datagram(GATEWAY, port, b"x" * size)
                payload, place = until_heard(it, far)
                assert payload == b"x" * size
                far.sendto(payload, place)
                it.until(lambda: it.guest.datagrams)
                [(key, answer)] = it.guest.datagrams
                assert (key.guest_address, key.guest_port, answer) == (GATEWAY, port, payload)
            assert it.relay.counters.associations == 3
            far.close()
            it.guest.send_datagram(GATEWAY, port, b"x")
            it.until(lambda: it.guest.device.errors)
            assert it.guest.device.errors == [(4, 3, 3)]


def test_dns_at_the_gateway_stays_the_name_services() -> None:
    with world(direct, loopback={GATEWAY: LOOPBACK}, hosts={b"h.example": (SITE,)}) as it:
        assert it.ask(query(b"h.example")).endswith(SITE)
        assert it.relay.counters.associations == 0


@pytest.mark.parametrize(
    ("rules", "address", "error"),
    [
        (Rules(locked=True), SITE, (4, 3, 13)),
        (Rules(), bytes((127, 0, 0, 1)), (4, 3, 13)),
        (Rules(), bytes((169, 254, 169, 254)), (4, 3, 13)),
        (Rules(), bytes((192, 168, 1, 1)), (4, 3, 13)),
        (Rules(), GATEWAY, (4, 3, 3)),
        (Rules(), bytes((198, 18, 0, 9)), (4, 3, 1)),
        (Rules(takes_ipv6=False), SITE6, (6, 1, 0)),
    ],
)
def test_every_destination_is_judged_as_those_of_connections_are(
    rules: Rules, address: bytes, error: tuple[int, int, int]
) -> None:
    with world(direct, rules=rules) as it:
        it.guest.send_datagram(address, 9, b"x")
        it.until(lambda: it.guest.device.errors)
        assert it.guest.device.errors == [error]
        assert it.relay.counters.associations == 0


def test_super_packets_are_cut_on_their_way_out() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", 0))
        far.setblocking(False)
        port = far.getsockname()[1]
        with world(direct, loopback={GATEWAY: LOOPBACK}) as it:
            data = udp.emit(GUEST + GATEWAY, 4000, port, b"aaabbbc", partial=True)
            packet = ipv4.emit(GUEST + GATEWAY, ip.UDP, len(data)) + data
            it.guest.device.write([vnet.emit(vnet.NEEDS_CSUM, vnet.GSO_UDP_L4, 28, 3, 20, 6), packet])
            assert [until_heard(it, far)[0] for _ in range(3)] == [b"aaa", b"bbb", b"c"]
