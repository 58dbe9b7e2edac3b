# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of an attacker's own making, put into the tun from inside by a packet socket."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import time
from collections.abc import Callable

from torbox.netstack.wire import WireError, ip, ipv4, tcp

ATTACKER = bytes((10, 0, 2, 101))  # nobody: the kernel inside drops what is answered
HONEST = bytes((10, 0, 2, 100))
ETH_P_IP = 0x0800


class Pace:
    """As fast as the stack reads: a flood that overruns the tun's own queue only tests that queue.

    What the kernel drops there is lost to every program of the sandbox alike, before torbox sees it.
    """

    def __init__(self) -> None:
        self._burst = 64  # frames between two looks at the count of what was dropped
        self._left = self._burst
        self._dropped = _dropped()

    def keep(self) -> None:
        """Called for each frame or so."""
        self._left -= 1
        if self._left > 0:
            return
        dropped = _dropped()
        if dropped != self._dropped:
            self._dropped = dropped
            self._burst = max(self._burst // 2, 8)
            time.sleep(0.05)
        else:
            self._burst = min(self._burst + 8, 512)
            time.sleep(0.0005)
        self._left = self._burst


def _dropped() -> int:
    """Frames that the tun had no room for, so far."""
    with open("/proc/self/net/dev") as file:
        line = next(line for line in file if line.strip().startswith("tun0:"))
    return int(line.partition(":")[2].split()[11])


class Raw:
    """`send` puts an IPv4 packet on the wire; `segments` are those that come for ATTACKER."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        self._socket.bind(("tun0", ETH_P_IP))
        self._socket.setblocking(False)
        self._pace = Pace()

    def send(self, packet: bytes) -> None:
        self._pace.keep()
        with contextlib.suppress(BlockingIOError):
            self._socket.send(packet)
            return
        select.select([], [self._socket], [])

    def segments(self, wait_s: float) -> list[tuple[ip.Packet, tcp.Segment]]:
        """What has come by now, at least one if it comes in time. Views die with the next call."""
        found: list[tuple[ip.Packet, tcp.Segment]] = []
        if not select.select([self._socket], [], [], wait_s)[0]:
            return found
        for _ in range(64):
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                break
            view = memoryview(data)
            with contextlib.suppress(WireError):
                packet = ipv4.parse(view, 0, len(view))
                if packet.destination == ATTACKER and packet.protocol == ip.TCP:
                    found.append((packet, tcp.parse(packet, verify=False)))
        return found


TIMESTAMPS = b"\1\1\x08\x0a"  # as they begin in our stack's SYN, with the padding before


class Peer:
    """One connection of the attacker's, whose rules are the attacker's."""

    def __init__(self, raw: Raw, remote: bytes, ports: tuple[int, int], options: bytes = b"") -> None:
        self._raw = raw
        self.addresses = ATTACKER + remote
        self.ports = struct.pack("!HH", *ports)
        self.options = options
        self.seq, self.ack = 1000, 0
        self.open = False
        self.stamp = b""  # timestamps that are believed; without them all that is said would be dropped
        self.say(tcp.SYN, options=options)

    def say(
        self,
        flags: int,
        data: bytes = b"",
        *,
        skip: int = 0,
        ahead: int = 0,
        window: int = 65535,
        options: bytes = b"",
    ) -> None:
        """A segment `skip` bytes after what is due, that acknowledges `ahead` bytes more than came."""
        seq, ack = (self.seq + skip) & 0xFFFFFFFF, (self.ack + ahead) & 0xFFFFFFFF
        if not flags & tcp.SYN:
            options = (self.stamp + options)[:40]
        self._raw.send(tcp.emit(self.addresses, self.ports, seq, ack, flags, window, options, data))

    def hear(self, segment: tcp.Segment) -> None:
        if segment.flags & tcp.RST:
            self.open = False
            self.say(tcp.SYN, options=self.options)
        elif segment.flags & tcp.SYN:
            self.open = True
            at = segment.options.find(TIMESTAMPS)
            if at >= 0:
                self.stamp = TIMESTAMPS + bytes((0, 0, 0, 1)) + segment.options[at + 4 : at + 8]
            self.seq = segment.ack
            self.ack = (segment.seq + 1) & 0xFFFFFFFF
            self.say(tcp.ACK)
        else:
            self.ack = max(self.ack, (segment.seq + len(segment.data)) & 0xFFFFFFFF)


def play(raw: Raw, peers: list[Peer], act: Callable[[Peer, random.Random], None]) -> None:
    """Keep the connections open, and `act` on each in turn, for ever."""
    by_ports = {peer.ports: peer for peer in peers}
    chance = random.Random(1)
    while True:
        for _, segment in raw.segments(0.01):
            peer = by_ports.get(segment.ports[2:] + segment.ports[:2])
            if peer is not None:
                peer.hear(segment)
        for peer in peers:
            if peer.open:
                act(peer, chance)
            elif chance.random() < 0.01:
                peer.say(tcp.SYN, options=peer.options)
