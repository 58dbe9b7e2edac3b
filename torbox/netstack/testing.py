# SPDX-License-Identifier: GPL-3.0-or-later
"""Fakes that live beside the interface: devices without a kernel, and a little guest to feed them.

MemoryDevice    two queues; what a test puts in is read, what is written is kept
LinkDevice      one end of a link to another stack, with loss, duplication, reordering and delay
FaultyDevice    any device, made as bad as such a link, both ways: to meet a real kernel over one
Guest           makes packets as a guest would, and takes apart what it is sent
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from struct import pack

from torbox.netstack.device import MAX_FRAME, Device
from torbox.netstack.wire import icmpv4, icmpv6, ip, ipv4, ipv6, tcp, udp, vnet


class MemoryDevice:
    """Frames are whole packets with their virtio header. `full` true: nothing more is taken."""

    def __init__(self, mtu: int = 1500, *, gso: bool = True, checksums: bool = True) -> None:
        self.mtu = mtu
        self.gso = gso
        self.checksums = checksums
        self.full = False
        self.from_guest: deque[bytes] = deque()
        self.to_guest: deque[bytes] = deque()

    def fileno(self) -> int:
        return -1

    def read_into(self, buffer: memoryview) -> int:
        if not self.from_guest:
            return 0
        frame = self.from_guest.popleft()
        buffer[: len(frame)] = frame
        return len(frame)

    def write(self, parts: Sequence[bytes | memoryview]) -> bool:
        if self.full:
            return False
        self.to_guest.append(b"".join(parts))
        return True


class BadWire:
    """One direction of a bad link: frames come out later, perhaps twice, perhaps never.

    `loss`, `duplication` and `reordering` are probabilities; a frame takes `delay_s`, and one that is
    reordered up to four times as long. `lost` counts frames.
    """

    def __init__(
        self,
        chance: random.Random,
        *,
        loss: float = 0.0,
        duplication: float = 0.0,
        reordering: float = 0.0,
        delay_s: float = 0.001,
    ) -> None:
        self.lost = 0
        self._chance = chance
        self._loss = loss
        self._duplication = duplication
        self._reordering = reordering
        self._delay_s = delay_s
        self._order = count()
        self._under_way: list[tuple[float, int, bytes]] = []

    def put(self, frame: bytes, now: float) -> None:
        chance = self._chance.random
        if chance() < self._loss:
            self.lost += 1
            return
        for _ in range(2 if chance() < self._duplication else 1):
            late = chance() * 3 + 1 if chance() < self._reordering else 1
            heapq.heappush(self._under_way, (now + self._delay_s * late, next(self._order), frame))

    @property
    def deadline(self) -> float:
        return self._under_way[0][0] if self._under_way else float("inf")

    def take(self, now: float) -> bytes:
        """The next frame that is due by now; empty if there is none."""
        if self.deadline > now:
            return b""
        return heapq.heappop(self._under_way)[2]


class LinkDevice(MemoryDevice):
    """One end of a link: what is written goes over a BadWire to `peer`.

    `clock()` gives now; `arrive(now)` hands over what is due.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        wire: BadWire,
        *,
        mtu: int = 1500,
        gso: bool = True,
        checksums: bool = True,
    ) -> None:
        super().__init__(mtu, gso=gso, checksums=checksums)
        self.peer: LinkDevice | None = None
        self._clock = clock
        self._wire = wire

    @property
    def lost(self) -> int:
        return self._wire.lost

    def write(self, parts: Sequence[bytes | memoryview]) -> bool:
        self._wire.put(b"".join(parts), self._clock())
        return True

    @property
    def deadline(self) -> float:
        return self._wire.deadline

    def arrive(self, now: float) -> None:
        """Put what is due by now into the peer's queue."""
        assert self.peer is not None
        while frame := self._wire.take(now):
            self.peer.from_guest.append(frame)


class FaultyDevice:
    """`device` behind two BadWires. `carry` moves what is due, and is to be called at `deadline`."""

    def __init__(
        self, device: Device, clock: Callable[[], float], from_guest: BadWire, to_guest: BadWire
    ) -> None:
        self.mtu = device.mtu
        self.gso = device.gso
        self.checksums = device.checksums
        self._device = device
        self._clock = clock
        self._from_guest = from_guest
        self._to_guest = to_guest
        self._frame = memoryview(bytearray(MAX_FRAME))

    def fileno(self) -> int:
        return self._device.fileno()

    @property
    def deadline(self) -> float:
        return min(self._from_guest.deadline, self._to_guest.deadline)

    def carry(self, now: float) -> None:
        """Take what the guest has sent, and give it what has arrived."""
        while size := self._device.read_into(self._frame):
            self._from_guest.put(bytes(self._frame[:size]), now)
        while frame := self._to_guest.take(now):
            self._device.write([frame[: vnet.SIZE], frame[vnet.SIZE :]])

    def read_into(self, buffer: memoryview) -> int:
        frame = self._from_guest.take(self._clock())
        buffer[: len(frame)] = frame
        return len(frame)

    def write(self, parts: Sequence[bytes | memoryview]) -> bool:
        self._to_guest.put(b"".join(parts), self._clock())
        return True


class Guest:
    """A guest at `address` behind a MemoryDevice. Packed addresses; checksums are complete."""

    def __init__(self, device: MemoryDevice, address: bytes = bytes((10, 0, 2, 100))) -> None:
        self.device = device
        self.address = address

    def send(self, packet: bytes, header: bytes = vnet.NONE) -> None:
        self.device.from_guest.append(header + packet)

    def send_ip(self, remote: bytes, protocol: int, payload: bytes) -> None:
        addresses = self.address + remote
        form = ipv4 if len(remote) == 4 else ipv6
        self.send(form.emit(addresses, protocol, len(payload)) + payload)

    def send_segment(
        self,
        remote: bytes,
        ports: tuple[int, int],
        seq: int,
        ack: int,
        flags: int,
        window: int,
        options: bytes = b"",
        data: bytes = b"",
    ) -> None:
        """`ports` are ours, then the remote one's; `options` a multiple of four bytes."""
        packed = pack("!HH", *ports)
        self.send(tcp.emit(self.address + remote, packed, seq, ack, flags, window, options, data))

    def send_datagram(self, remote: bytes, ports: tuple[int, int], payload: bytes) -> None:
        self.send_ip(remote, ip.UDP, udp.emit(self.address + remote, *ports, payload))

    def send_echo(self, remote: bytes, rest: int, body: bytes) -> None:
        if len(remote) == 4:
            self.send_ip(remote, ip.ICMPV4, icmpv4.emit(icmpv4.ECHO_REQUEST, 0, rest, body))
        else:
            message = icmpv6.emit(self.address + remote, icmpv6.ECHO_REQUEST, 0, rest, body)
            self.send_ip(remote, ip.ICMPV6, message)

    def received(self) -> tuple[vnet.VnetHeader, ip.Packet] | None:
        """The next packet that was sent to us, None if there is none."""
        if not self.device.to_guest:
            return None
        frame = memoryview(self.device.to_guest.popleft())
        form = ipv4 if frame[vnet.SIZE] >> 4 == 4 else ipv6
        return vnet.parse(frame), form.parse(frame, vnet.SIZE, len(frame))
