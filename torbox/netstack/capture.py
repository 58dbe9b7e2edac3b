# SPDX-License-Identifier: GPL-3.0-or-later
"""A device with a capture of all that passes it, in the file format of pcap-savefile(5).

Checksums and sizes are as they pass: partial, and super-packets, as in a capture on a card with offload.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from struct import Struct

from torbox.netstack.device import Device
from torbox.netstack.wire import vnet

_MAGIC = 0xA1B2C3D4  # times in microseconds
_LINKTYPE_RAW = 101  # an IP packet and nothing before it
_RECORD = Struct("=IIII")  # seconds since 1970, microseconds, bytes that are here, bytes that were
LONGEST = 1 << 18  # bytes of a packet; readers refuse a file that says more
FILE_HEADER = Struct("=IHHiIII").pack(_MAGIC, 2, 4, 0, 0, LONGEST, _LINKTYPE_RAW)


class CaptureError(Exception):
    """A packet could not be written down: a capture with a hole in it would be believed."""


class CapturingDevice:
    """`fd` is open for appending, FILE_HEADER is in it, and it stays the caller's; several may share it.
    `clock` tells seconds since 1970.

    Reading and writing raise CaptureError too.
    """

    def __init__(self, device: Device, fd: int, clock: Callable[[], float]) -> None:
        self.mtu = device.mtu
        self.gso = device.gso
        self.checksums = device.checksums
        self._device = device
        self._fd = fd
        self._clock = clock

    def fileno(self) -> int:
        return self._device.fileno()

    def read_into(self, buffer: memoryview) -> int:
        size = self._device.read_into(buffer)
        if size > vnet.SIZE:
            self._record(bytes(buffer[vnet.SIZE : size]))
        return size

    def write(self, parts: Sequence[bytes | memoryview]) -> bool:
        if not self._device.write(parts):
            return False
        self._record(b"".join(parts)[vnet.SIZE :])
        return True

    def _record(self, packet: bytes) -> None:
        """In one write, so that the records of several processes do not mix."""
        seconds, rest = divmod(self._clock(), 1)
        record = _RECORD.pack(int(seconds), int(rest * 1e6), len(packet), len(packet)) + packet
        try:
            written = os.write(self._fd, record)
        except OSError as error:
            raise CaptureError from error
        if written != len(record):
            raise CaptureError
