# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames that get far: made with the stack's own state in sight, right in most of what they say.

A generator of random bytes dies at the first checksum. This one knows each connection's numbers and says
something near them, with options, fragments, extension headers and virtio headers that are nearly right; a
third of what it sends are conversations of the corpus, changed a little on their way.
"""

from __future__ import annotations

import random
from struct import Struct, pack, pack_into, unpack_from

from tests.fuzz.victim import GUESTS, REMOTES, RING_LIMIT, Victim
from torbox.netstack.device import MAX_FRAME
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.wire import icmpv4, icmpv6, ip, ipv4, ipv6, udp, vnet
from torbox.netstack.wire.checksum import complement, ones_sum
from torbox.netstack.wire.tcp import ACK, FIN, PSH, RST, SYN, URG

TCP_HEADER = Struct("!4sIIBBHHH")
PORTS = 8
GATEWAYS = (bytes((10, 0, 2, 2)), bytes.fromhex("fd00" + "00" * 13 + "02"))
ODD = (
    bytes(4),
    bytes((224, 0, 0, 1)),
    bytes((255,) * 4),
    bytes(16),
    bytes.fromhex("ff02" + "00" * 13 + "01"),
    bytes((10, 0, 2, 255)),
)
PATTERN = bytes(range(251)) * 270
CHECKED = vnet.emit(vnet.NEEDS_CSUM, csum_start=20, csum_offset=16)

FLAGS = (
    *(SYN, SYN, SYN, ACK, ACK, ACK, ACK, ACK, ACK, ACK | PSH, ACK | PSH, ACK | FIN, ACK | FIN),
    *(RST, RST | ACK, SYN | ACK, ACK | URG, FIN, 0, SYN | FIN, SYN | RST, 0xFF, ACK | 0xC0),
)
NEAR_SEQ = (0, 0, 0, 0, 0, 0, -1, 1, 100, 1460, -500, RING_LIMIT, RING_LIMIT - 1, RING_LIMIT + 1, 70000)
NEAR_ACK = (0, 0, 0, 0, 0, 1, -1, 500, -70000, 65535, 0x80000000)
SIZES = (0, 0, 0, 0, 1, 1, 10, 536, 1460, 1461, 6000, 60000)
WINDOWS = (0, 0, 1, 100, 1460, 65535, 65535, 32768)
PROTOCOLS = (0, 1, 2, 6, 17, 41, 43, 44, 50, 51, 58, 59, 60, 99, 132, 135, 140, 255)
EXTENSIONS = (ipv6.HOP_BY_HOP, ipv6.ROUTING, ipv6.DESTINATION_OPTIONS, ipv6.FRAGMENT_HEADER)


class Frames:
    """`make()` gives the next frame. `tapes` are the conversations of the corpus, each a list of frames."""

    def __init__(self, chance: random.Random, victim: Victim, tapes: list[list[bytes]]) -> None:
        self.chance = chance
        self.victim = victim
        self._tapes = tapes
        self._tape: list[bytes] = []
        self._last = b""
        self._position = 0
        self._kinds = (
            *((self._segment,) * 12),
            *((self._from_tape,) * 8),
            *(self._duplicate, self._duplicate, self._repeated),
            *(self._datagram, self._datagram, self._fragment, self._fragment, self._message),
            *(self._extended, self._anything, self._garbage),
        )

    def make(self) -> bytes:
        chance = self.chance
        frame = self._kinds[int(chance.random() * len(self._kinds))]()
        if chance.random() < 0.12:
            frame = self._damaged(frame)
        self._last = frame = frame[:MAX_FRAME]
        return frame

    # TCP

    def _numbers(self, connection: TcpConnection) -> tuple[int, int]:
        """A sequence number and an acknowledgement near what the connection expects."""
        pick, sender = self.chance.choice, connection.sender
        base = pick((sender.una, sender.nxt, sender.max, sender.max))
        return (connection.receiver.nxt + pick(NEAR_SEQ)) & 0xFFFFFFFF, (base + pick(NEAR_ACK)) & 0xFFFFFFFF

    def _segment(self) -> bytes:
        chance, pick = self.chance, self.chance.choice
        connections = self.victim.stack.connections
        stamp = b""
        if connections and chance.random() < 0.85:
            connection = list(connections.values())[int(chance.random() * len(connections))]
            key = connection.key
            stamp = self._stamp(connection)
            addresses = key.guest_address + key.remote_address
            ports = pack("!HH", key.guest_port, key.remote_port)
            seq, ack = self._numbers(connection)
            if chance.random() < 0.3:  # what a good guest would say
                sender = connection.sender
                seq, ack, flags = connection.receiver.nxt, sender.max, ACK
            else:
                flags = pick(FLAGS)
        else:
            family = chance.getrandbits(1)
            addresses = GUESTS[family] + pick((REMOTES[family], REMOTES[family], GATEWAYS[family]))
            ports = bytes((0, chance.randrange(PORTS), 0, pick((80, 80, 53, 2))))
            seq, ack, flags = chance.getrandbits(32), chance.getrandbits(32), pick(FLAGS[:6])
        return self._tcp(addresses, ports, seq, ack, flags, pick(SIZES), stamp)

    def _duplicate(self) -> bytes:
        """An acknowledgement that says nothing new: three of them make the stack send again."""
        connections = [each for each in self.victim.stack.connections.values() if each.sender.wnd]
        if not connections:
            return self._segment()
        connection = connections[int(self.chance.random() * len(connections))]
        key, sender = connection.key, connection.sender
        window = min(sender.wnd >> sender.scale, 65535)
        ports = pack("!HH", key.guest_port, key.remote_port)
        options = self._stamp(connection)
        if self.chance.random() < 0.5:
            options = (options + self._options(ACK, connection.receiver.nxt, sender.una))[:40]
        segment = TCP_HEADER.pack(
            ports, connection.receiver.nxt, sender.una, 0x50 + (len(options) << 2), ACK, window, 0, 0
        )
        self._last = CHECKED + _ip(key.guest_address + key.remote_address, ip.TCP, segment + options)
        return self._last

    def _stamp(self, connection: TcpConnection) -> bytes:
        """Timestamps that the connection accepts, if it has them: without, all that is said is dropped."""
        timestamps = connection.timestamps
        if timestamps is None or self.chance.random() < 0.1:
            return b""
        value = timestamps.recent + self.chance.choice((0, 0, 1, 1000))
        return b"\1\1\x08\x0a" + pack("!II", value & 0xFFFFFFFF, timestamps.value(self.victim.now))

    def _repeated(self) -> bytes:
        return self._last or self._segment()

    def _tcp(
        self, addresses: bytes, ports: bytes, seq: int, ack: int, flags: int, size: int, stamp: bytes = b""
    ) -> bytes:
        chance = self.chance
        options = stamp
        if chance.random() < 0.4:
            options = (stamp + self._options(flags, seq, ack))[:40]
        window = chance.choice(WINDOWS)
        segment = (
            TCP_HEADER.pack(ports, seq, ack, 0x50 + (len(options) << 2), flags, window, 0, 0)
            + options
            + PATTERN[:size]
        )
        if len(segment) > 65495:
            segment = segment[:65495]
        if chance.random() < 0.05:  # the checksum made here, instead of left to hardware
            data = bytearray(segment)
            total = ones_sum(addresses) + ip.TCP + len(segment) + ones_sum(segment)
            pack_into("!H", data, 16, complement(total))
            return vnet.NONE + _ip(addresses, ip.TCP, bytes(data))
        header = CHECKED
        if size > 1460 or chance.random() < 0.02:
            gso_type = vnet.GSO_TCPV4 if len(addresses) == 8 else vnet.GSO_TCPV6
            header = vnet.emit(vnet.NEEDS_CSUM, gso_type, 40, chance.choice((1460, 1, 0, 65535)), 20, 16)
        return header + _ip(addresses, ip.TCP, segment)

    def _options(self, flags: int, seq: int, ack: int) -> bytes:
        """Options right and wrong: MSS, window scale, SACK, timestamps, and what no one knows."""
        chance, pick = self.chance, self.chance.choice
        parts: list[bytes] = []
        for _ in range(pick((1, 1, 2, 3, 6))):
            kind = chance.randrange(10)
            if kind == 0:
                parts.append(b"\2\4" + pack("!H", pick((0, 1, 63, 64, 536, 1460, 9000, 65535))))
            elif kind == 1:
                parts.append(bytes((3, 3, pick((0, 1, 7, 14, 15, 255)))))
            elif kind == 2:
                parts.append(b"\4\2")
            elif kind in (3, 4):  # blocks near what is in flight, in order or not
                blocks = b""
                for _ in range(pick((1, 1, 2, 3, 4))):
                    left = (ack + pick((0, 1, 500, 1460, -1, -3000, 70000, 1 << 31))) & 0xFFFFFFFF
                    blocks += pack("!II", left, (left + pick((0, 1, 1460, 3000, -1, 1 << 31))) & 0xFFFFFFFF)
                parts.append(bytes((5, 2 + len(blocks))) + blocks)
            elif kind in (5, 6):
                now = int(self.victim.now * 1000) & 0xFFFFFFFF
                mine = (now + pick((0, 0, 1, -1, 1 << 31))) & 0xFFFFFFFF
                parts.append(
                    b"\x08\x0a" + pack("!II", mine, pick((0, now, now - 1, now + 1000)) & 0xFFFFFFFF)
                )
            elif kind == 7:
                parts.append(pick((b"\1", b"\1\1", b"\0")))
            elif kind == 8:
                parts.append(bytes((chance.randrange(256), pick((0, 1, 2, 3, 40, 255)))))
            else:
                parts.append(chance.randbytes(chance.randrange(1, 6)))
        options = b"".join(parts)[:40]
        return options + bytes(-len(options) % 4)

    # Everything else

    def _addresses(self) -> bytes:
        chance, pick = self.chance, self.chance.choice
        family = chance.getrandbits(1)
        if chance.random() < 0.05:
            size = 16 if family else 4
            odd = [each for each in (*ODD, *GUESTS, *GATEWAYS) if len(each) == size]
            return bytes(pick(odd) + pick(odd))
        return GUESTS[family] + pick((REMOTES[family], GATEWAYS[family]))

    def _datagram(self) -> bytes:
        chance, pick = self.chance, self.chance.choice
        addresses = self._addresses()
        size = pick((0, 1, 30, 500, 1472, 8000, 65507))
        datagram = udp.emit(addresses, chance.randrange(PORTS), pick((1, 2, 53, 443)), PATTERN[:size])
        header = vnet.NONE
        if chance.random() < 0.4:
            step = pick((0, 1, 4, 100, 1472, 65535))
            header = vnet.emit(pick((0, vnet.NEEDS_CSUM)), vnet.GSO_UDP_L4, 28, step, 20, 6)
        return header + _ip(addresses, ip.UDP, datagram)

    def _fragment(self) -> bytes:
        """One piece of a datagram or a segment, mostly of one of few packets, so that they meet."""
        chance, pick = self.chance, self.chance.choice
        addresses = self._addresses()
        protocol = pick((ip.UDP, ip.UDP, ip.TCP, ip.ICMPV6))
        size = pick((40, 200, 1000))
        payload = udp.emit(addresses, 1, 2, PATTERN[:size]) if protocol == ip.UDP else PATTERN[:size]
        mtu = pick((68, 300)) if len(addresses) == 8 else pick((100, 300))
        form = ipv4 if len(addresses) == 8 else ipv6
        piece = bytearray(pick(form.fragments(addresses, protocol, payload, mtu, chance.randrange(3))))
        if chance.random() < 0.2:
            at = 6 if len(addresses) == 8 else 42
            if len(piece) >= at + 2:
                pack_into("!H", piece, at, chance.getrandbits(16))
                _fix_ipv4(piece)
        return vnet.NONE + bytes(piece)

    def _message(self) -> bytes:
        """ICMP: echoes, and errors about connections that are there, or are not."""
        chance, pick = self.chance, self.chance.choice
        addresses = self._addresses()
        body = PATTERN[: pick((0, 1, 56, 1400, 3000))]
        v4 = len(addresses) == 8
        if chance.random() < 0.5:
            quoted = list(self.victim.stack.connections.values())
            if quoted:
                key = pick(quoted).key
                inner = key.remote_address + key.guest_address
                ports = pack("!HHI", key.remote_port, key.guest_port, pick(quoted).sender.una)
                body = _ip(inner, ip.TCP, ports + bytes(12))[: pick((20, 28, 40, 60))]
            code, rest = chance.randrange(16), pick((0, 68, 576, 1280, 1500, 0xFFFFFFFF))
            kind = pick((3, 4, 5, 11, 12)) if v4 else pick((1, 2, 3, 4, 137))
        else:
            kind, code, rest = icmpv4.ECHO_REQUEST if v4 else icmpv6.ECHO_REQUEST, 0, chance.getrandbits(32)
        if v4:
            return vnet.NONE + _ip(addresses, ip.ICMPV4, icmpv4.emit(kind, code, rest, body))
        return vnet.NONE + _ip(addresses, ip.ICMPV6, icmpv6.emit(addresses, kind, code, rest, body))

    def _extended(self) -> bytes:
        """IPv6 with extension headers, or IPv4 with options, before a segment."""
        chance, pick = self.chance, self.chance.choice
        inner = self._segment()
        if inner[vnet.SIZE] >> 4 == 4:
            header, payload = inner[vnet.SIZE : vnet.SIZE + 20], inner[vnet.SIZE + 20 :]
            options = chance.randbytes(pick((4, 8, 40)))
            packet = bytearray(header + options + payload)
            packet[0] = 0x45 + len(options) // 4
            pack_into("!H", packet, 2, min(len(packet), 65535))
            _fix_ipv4(packet)
            return inner[: vnet.SIZE] + bytes(packet)
        header, payload = inner[vnet.SIZE : vnet.SIZE + 40], inner[vnet.SIZE + 40 :]
        chain, protocol = b"", header[6]
        for _ in range(pick((1, 1, 2, 3, 8, 9))):
            kind = pick(EXTENSIONS)
            if kind == ipv6.FRAGMENT_HEADER:
                piece = pack("!BBHI", protocol, 0, pick((0, 0, 1, 8, 9, 0xFFF8)), chance.randrange(3))
            else:
                units = pick((0, 0, 1, 3, 255))
                size = 4 + 8 * pick((units, units, 0))  # of an option that is skipped, discarded, told of
                piece = bytes((protocol, units, pick((0, 1, 0x1E, 0x1E, 0x40, 0x80, 0xC2)), size & 0xFF))
                piece += bytes(size)
            chain, protocol = piece + chain, kind
        packet = bytearray(header + chain + payload)
        packet[6] = protocol
        pack_into("!H", packet, 4, min(len(packet) - 40, 65535))
        return inner[: vnet.SIZE] + bytes(packet)

    def _anything(self) -> bytes:
        addresses = self._addresses()
        body = self.chance.randbytes(self.chance.randrange(80))
        return vnet.NONE + _ip(addresses, self.chance.choice(PROTOCOLS), body)

    def _garbage(self) -> bytes:
        chance = self.chance
        return chance.randbytes(chance.randrange(1, 120))

    # Conversations, and changes to them

    def _from_tape(self) -> bytes:
        if self._position >= len(self._tape):
            if not self._tapes:
                return self._segment()
            self._tape, self._position = self.chance.choice(self._tapes), 0
        frame = self._tape[self._position]
        what = self.chance.random()
        if what < 0.9:
            self._position += 1  # else it is repeated
        if what < 0.05:
            return self._segment()  # in place of what is left out
        return self._changed(frame) if what < 0.35 else frame

    def _changed(self, frame: bytes) -> bytes:
        """One field of a segment that is otherwise right says something else."""
        data, chance = bytearray(frame), self.chance
        v4 = data[vnet.SIZE] >> 4 == 4
        start = vnet.SIZE + (20 if v4 else 40)
        if len(data) < start + 20 or data[vnet.SIZE + (9 if v4 else 6)] != ip.TCP:
            return self._damaged(frame)
        data[0] |= vnet.NEEDS_CSUM
        field = chance.randrange(6)
        if field < 2:
            at = start + 4 + 4 * field
            moved = unpack_from("!I", data, at)[0] + chance.choice(NEAR_SEQ + NEAR_ACK)
            pack_into("!I", data, at, moved & 0xFFFFFFFF)
        elif field == 2:
            data[start + 13] = chance.choice(FLAGS)
        elif field == 3:
            pack_into("!H", data, start + 14, chance.choice(WINDOWS))
        elif field == 4:
            data[start + 12] = chance.randrange(256)
        else:
            pack_into("!H", data, start + 18, chance.getrandbits(16))
        return bytes(data)

    def _damaged(self, frame: bytes) -> bytes:
        chance = self.chance
        data = bytearray(frame)
        what = chance.random()
        if what < 0.2:
            del data[1 + int(chance.random() * (len(data) - 1)) :]
        elif what < 0.3:
            data[: vnet.SIZE] = chance.randbytes(vnet.SIZE)
        else:
            reach = min(len(data), 90)  # headers rather than data
            for _ in range(chance.choice((1, 1, 2, 4))):
                data[int(chance.random() * reach)] ^= 1 << chance.randrange(8)
            if what < 0.8:
                _fix_ipv4(data, vnet.SIZE)
        return bytes(data) or b"\0"


def _ip(addresses: bytes, protocol: int, payload: bytes) -> bytes:
    if len(addresses) == 8:
        return ipv4.emit(addresses, protocol, min(len(payload), 65515)) + payload[:65515]
    return ipv6.emit(addresses, protocol, min(len(payload), 65535)) + payload[:65535]


def _fix_ipv4(packet: bytearray, start: int = 0) -> None:
    """Make the header's checksum right, if that is what the packet has."""
    if len(packet) < start + 20 or packet[start] >> 4 != 4:
        return
    size = min(max((packet[start] & 15) * 4, 20), len(packet) - start)
    pack_into("!H", packet, start + 10, 0)
    pack_into("!H", packet, start + 10, complement(ones_sum(packet[start : start + size])))
