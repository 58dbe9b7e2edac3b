# SPDX-License-Identifier: GPL-3.0-or-later
"""A tun is a descriptor with one packet a read; so is a datagram socket, which serves in its place here."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from torbox.netstack.device import MAX_FRAME, TunDevice
from torbox.netstack.wire import vnet

PACKET = b"\x45" + bytes(range(40))
HEADER = vnet.emit(vnet.NEEDS_CSUM, csum_start=20, csum_offset=16)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    tun, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    tun.setblocking(False)
    kernel.settimeout(5)
    with tun, kernel:
        yield tun, kernel


@pytest.fixture
def buffer() -> memoryview:
    return memoryview(bytearray(b"\xff" * MAX_FRAME))


def test_a_tun_with_virtio_headers_passes_them_on(
    ends: tuple[socket.socket, socket.socket], buffer: memoryview
) -> None:
    tun, kernel = ends
    device = TunDevice(tun.fileno(), 1500)
    assert (device.mtu, device.gso, device.checksums, device.fileno()) == (1500, True, True, tun.fileno())
    assert device.read_into(buffer) == 0
    kernel.send(HEADER + PACKET)
    assert device.read_into(buffer) == len(HEADER + PACKET)
    assert bytes(buffer[: len(HEADER + PACKET)]) == HEADER + PACKET
    assert device.write([HEADER, PACKET[:20], memoryview(PACKET)[20:]])
    assert kernel.recv(1000) == HEADER + PACKET


def test_a_tun_without_looks_the_same_from_above(
    ends: tuple[socket.socket, socket.socket], buffer: memoryview
) -> None:
    tun, kernel = ends
    device = TunDevice(tun.fileno(), 1500, vnet_hdr=False, gso=True)
    assert (device.gso, device.checksums) == (False, False)
    assert device.read_into(buffer) == 0
    kernel.send(PACKET)
    assert device.read_into(buffer) == vnet.SIZE + len(PACKET)
    assert bytes(buffer[: vnet.SIZE + len(PACKET)]) == vnet.NONE + PACKET
    assert device.write([vnet.NONE, PACKET])
    assert kernel.recv(1000) == PACKET


def test_a_full_device_says_so(ends: tuple[socket.socket, socket.socket]) -> None:
    tun, _ = ends
    device = TunDevice(tun.fileno(), 1500)
    written = 0
    while device.write([HEADER, PACKET]):
        written += 1
        assert written < 100_000
    assert written > 0


def test_the_descriptor_stays_the_callers(ends: tuple[socket.socket, socket.socket]) -> None:
    tun, _ = ends
    device = TunDevice(tun.fileno(), 1500)
    del device
    os.fstat(tun.fileno())


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.ENOBUFS])
def test_a_packet_that_the_kernel_has_no_memory_for_is_lost_and_the_device_goes_on(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    device = TunDevice(ends[0].fileno(), 1500)

    def no_memory(*arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", no_memory)
        assert not device.write([HEADER, PACKET])
    assert device.write([HEADER, PACKET])
