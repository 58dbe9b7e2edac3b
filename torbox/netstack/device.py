# SPDX-License-Identifier: GPL-3.0-or-later
"""Where packets come from and go to: a tun, or one of the fakes in `testing`.

Every packet has a virtio header of ten bytes before it (wire/vnet.py), whatever the device: one without
offload hands over an empty one and is only ever given an empty one. So nothing above asks twice.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Sequence
from typing import Protocol

from torbox.netstack.wire import vnet

# What write(2) says when the kernel has no memory for a packet, which is lost as if there were no room: a
# guest that eats up the machine's must not end its stack.
_NO_MEMORY = frozenset((errno.ENOBUFS, errno.ENOMEM))
MAX_FRAME = vnet.SIZE + 40 + 65535  # bytes of the largest packet, IPv6, with its virtio header


class Device(Protocol):
    """A queue of packets each way. Nothing blocks."""

    mtu: int  # bytes of the largest packet on the wire; what TCP's segments are cut to
    checksums: bool  # completes a checksum that is NEEDS_CSUM
    gso: bool  # takes super-packets and cuts them; implies `checksums`

    def fileno(self) -> int:
        """What to wait on for reading; -1 when there is nothing."""

    def read_into(self, buffer: memoryview) -> int:
        """Read one packet with its virtio header; 0 when none waits."""

    def write(self, parts: Sequence[bytes | memoryview]) -> bool:
        """Write one packet, its virtio header as the first part; false when there was no room for it."""


class TunDevice:
    """A tun queue, given as a non-blocking descriptor opened with IFF_TUN and IFF_NO_PI.

    `vnet_hdr`: it was opened with IFF_VNET_HDR (and a header size of ten). The descriptor stays the caller's.
    OSError from reading or writing is the caller's too: the tun is gone, or its interface is down.
    """

    def __init__(self, fd: int, mtu: int, *, vnet_hdr: bool = True, gso: bool = True) -> None:
        self.mtu = mtu
        self.vnet_hdr = vnet_hdr
        self.checksums = vnet_hdr
        self.gso = gso and vnet_hdr
        self._fd = fd
        # readinto answers None where os.readv would raise: an exception costs more than the read.
        self._read_into = io.FileIO(fd, "rb", closefd=False).readinto

    def fileno(self) -> int:
        return self._fd

    def read_into(self, buffer: memoryview) -> int:
        if self.vnet_hdr:
            return self._read_into(buffer) or 0
        size = self._read_into(buffer[vnet.SIZE :])
        if not size:
            return 0
        buffer[: vnet.SIZE] = vnet.NONE
        return size + vnet.SIZE

    def write(self, parts: Sequence[bytes | memoryview]) -> bool:
        try:
            os.writev(self._fd, parts if self.vnet_hdr else parts[1:])
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _NO_MEMORY:
                raise
            return False
        return True
