# SPDX-License-Identifier: GPL-3.0-or-later
"""What the corpus is made of: conversations that go well, held with a live stack and written down.

`python -m tests.fuzz.conversations` writes them anew, for when the stack's answers have changed so much that
the old ones lead nowhere. Files called failure-*.case are not made here; they are what fuzzing once found.
"""

from __future__ import annotations

from struct import pack

from tests.fuzz import case
from tests.fuzz.case import CORPUS, Step
from tests.fuzz.victim import GUESTS, PASSES_S, REMOTES, Victim
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.wire import icmpv4, icmpv6, ip, ipv4, ipv6, tcp, udp, vnet
from torbox.netstack.wire.tcp import ACK, FIN, PSH, RST, SYN, URG

SYN_OPTIONS = b"\2\4\5\xb4\4\2\x08\x0a" + pack("!II", 10_000, 0) + b"\1\3\3\7"  # as Linux sends them
IDLE, ACCEPT, READ, WRITE, CLOSE = 12, 0, 1, 6, 9  # what Victim._use does, by its number modulo 13


class Conversation:
    """One port of the guest's with the stack; every step that is taken is kept in `steps`."""

    def __init__(self, family: int, port: int) -> None:
        self.victim = Victim()
        self.steps: list[Step] = []
        self.family = family
        self.port = port
        self.addresses = GUESTS[family] + REMOTES[family]
        self.seq = 1000

    @property
    def connection(self) -> TcpConnection:
        (found,) = self.victim.stack.connections.values()
        return found

    def put(self, packet: bytes, header: bytes = vnet.NONE) -> None:
        self.steps.append(header + packet)
        self.victim.device.from_guest.append(header + packet)

    def stamp(self) -> bytes:
        """The timestamps of the next segment, if the connection has them: without, it would be dropped."""
        if self.connection.timestamps is None:
            return b""
        return b"\1\1\x08\x0a" + pack("!II", 10_000 + len(self.steps), self.connection.timestamps.offset)

    def say(
        self, flags: int, data: bytes = b"", options: bytes = b"", window: int = 60000, skip: int = 0
    ) -> None:
        """The next segment, or one that lies `skip` bytes further on, which does not count as said."""
        ack = self.connection.sender.max if flags & ACK else 0
        ports = pack("!HH", self.port, 80)
        seq = (self.seq + skip) & 0xFFFFFFFF
        if not flags & SYN:
            options = self.stamp() + options
        self.put(tcp.emit(self.addresses, ports, seq, ack, flags, window, options, data))
        if not skip:
            self.seq += len(data) + bool(flags & SYN) + bool(flags & FIN)

    def turn(self, verb: int = IDLE, amount: int = 0, pass_s: float = 0.001) -> None:
        """A turn in which the owner does that with our connection. `amount` in bytes; it may be more."""
        salt = self.port * 0x9E3779B1 & 0xFFFFFFFF
        for what in range(amount << 12 & 0xFFFFFFFF, 1 << 32):
            wished = what ^ salt
            if PASSES_S[wished >> 16 & 7] == pass_s and what % 13 == verb and wished % 61:
                break
        self.steps.append(wished)
        self.victim.turn(wished)

    def opened(self, options: bytes = SYN_OPTIONS) -> Conversation:
        self.say(SYN, options=options)
        self.turn(ACCEPT)
        self.say(ACK)
        self.turn()
        return self


def request_and_answer(it: Conversation) -> None:
    it.opened()
    it.say(ACK | PSH, b"GET / HTTP/1.1\r\n\r\n")
    it.turn(READ, 4000)
    it.turn(WRITE, 2900)
    it.say(ACK)
    it.say(ACK | FIN)
    it.turn(CLOSE)
    it.say(ACK)
    it.turn(pass_s=5.0)


def bulk_with_holes(it: Conversation) -> None:
    it.opened()
    for skip in (1448, 2896, 0, 500):
        it.say(ACK, bytes(1448), skip=skip)
    it.turn(READ, 4999)
    it.seq += 2896
    it.turn(WRITE, 2900)
    una = it.connection.sender.una
    block = b"\1\1\5\x0a" + pack("!II", una + 1000 & 0xFFFFFFFF, una + 2000 & 0xFFFFFFFF)
    ports = pack("!HH", it.port, 80)
    for _ in range(4):
        it.put(tcp.emit(it.addresses, ports, it.seq, una, ACK, 60000, it.stamp() + block))
        it.turn()
    it.say(ACK)
    it.turn()


def closed_window(it: Conversation) -> None:
    it.opened(b"\2\4\2\x18")
    it.say(ACK, window=0)
    it.turn(WRITE, 2900)
    for _ in range(3):
        it.turn(pass_s=5.0)
        it.say(ACK, window=0)
    it.say(ACK, window=700)
    it.turn()
    it.say(ACK)
    it.turn()


def both_close_at_once(it: Conversation) -> None:
    it.opened()
    it.turn(CLOSE)
    seen = it.connection.sender.una
    ports = pack("!HH", it.port, 80)
    it.put(tcp.emit(it.addresses, ports, it.seq, seen, ACK | FIN, 60000, it.stamp()))
    it.seq += 1
    it.turn()
    it.say(ACK)
    it.turn(pass_s=5.0)


def reset_and_urgent(it: Conversation) -> None:
    it.opened()
    it.say(ACK | URG, b"urgent")
    it.turn(READ, 100)
    it.say(RST | ACK, skip=50)
    it.say(RST)
    it.turn()


def super_packets(it: Conversation) -> None:
    it.opened()
    ports = pack("!HH", it.port, 80)
    kind = vnet.GSO_TCPV4 if it.family == 0 else vnet.GSO_TCPV6
    start = 20 if it.family == 0 else 40
    header = vnet.emit(vnet.NEEDS_CSUM, kind, start + 20, 1448, start, 16)
    for _ in range(3):
        it.put(
            tcp.emit(
                it.addresses, ports, it.seq, it.connection.sender.max, ACK, 60000, it.stamp(), bytes(4344)
            ),
            header,
        )
        it.seq += 4344
        it.turn(READ, 4999)
    it.say(ACK | FIN)
    it.turn(CLOSE)


def datagrams(it: Conversation) -> None:
    form = ipv4 if it.family == 0 else ipv6
    whole = udp.emit(it.addresses, it.port, 2, bytes(3000))
    for piece in form.fragments(it.addresses, ip.UDP, whole, 1280, 7)[::-1]:
        it.put(piece)
    many = udp.emit(it.addresses, it.port, 2, bytes(1000))
    it.put(form.emit(it.addresses, ip.UDP, len(many)) + many, vnet.emit(0, vnet.GSO_UDP_L4, 28, 100, 20, 6))
    gateway = it.addresses[: len(it.addresses) // 2] + (
        bytes((10, 0, 2, 2)) if it.family == 0 else bytes.fromhex("fd00" + "00" * 13 + "02")
    )
    if it.family == 0:
        echo = icmpv4.emit(icmpv4.ECHO_REQUEST, 0, 1, bytes(56))
        it.put(ipv4.emit(gateway, ip.ICMPV4, len(echo)) + echo)
    else:
        echo = icmpv6.emit(gateway, icmpv6.ECHO_REQUEST, 0, 1, bytes(56))
        it.put(ipv6.emit(gateway, ip.ICMPV6, len(echo)) + echo)
        extended = bytes((ip.UDP, 0, 1, 4, 0, 0, 0, 0)) + many
        it.put(ipv6.emit(it.addresses, ipv6.DESTINATION_OPTIONS, len(extended)) + extended)
    it.turn()


ALL = (
    request_and_answer,
    bulk_with_holes,
    closed_window,
    both_close_at_once,
    reset_and_urgent,
    super_packets,
    datagrams,
)


def held(number: int, family: int) -> list[Step]:
    conversation = Conversation(family, 1 + number % 7)
    ALL[number](conversation)
    return conversation.steps


def main() -> None:
    for number, talk in enumerate(ALL):
        for family, name in enumerate(("v4", "v6")):
            text = case.emit(held(number, family), f"{talk.__name__.replace('_', ' ')}, {name}")
            (CORPUS / f"{talk.__name__.replace('_', '-')}-{name}.case").write_text(text)


if __name__ == "__main__":
    main()
