# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import struct
from pathlib import Path

import pytest

from torbox.netstack.capture import FILE_HEADER, LONGEST, CaptureError, CapturingDevice
from torbox.netstack.device import MAX_FRAME
from torbox.netstack.testing import MemoryDevice
from torbox.netstack.wire import vnet

PACKET = b"\x45" + bytes(range(40))
HEADER = vnet.emit(vnet.NEEDS_CSUM, csum_start=20, csum_offset=16)


@pytest.fixture
def buffer() -> memoryview:
    return memoryview(bytearray(MAX_FRAME))


def test_a_capture_holds_what_passed_both_ways(buffer: memoryview, tmp_path: Path) -> None:
    inner = MemoryDevice()
    with open(tmp_path / "capture", "ab", buffering=0) as file:
        file.write(FILE_HEADER)
        device = CapturingDevice(inner, file.fileno(), lambda: 1234.5)
        assert (device.mtu, device.gso, device.checksums, device.fileno()) == (1500, True, True, -1)
        inner.from_guest.append(HEADER + PACKET)
        assert device.read_into(buffer) == len(HEADER + PACKET)
        assert device.read_into(buffer) == 0
        assert device.write([HEADER, b"\x60", b"rest"])
    assert inner.to_guest.popleft() == HEADER + b"\x60rest"
    data = (tmp_path / "capture").read_bytes()
    assert struct.unpack_from("=IHHiIII", data) == (0xA1B2C3D4, 2, 4, 0, 0, LONGEST, 101)
    assert struct.unpack_from("=IIII", data, 24) == (1234, 500_000, len(PACKET), len(PACKET))
    assert data[40 : 40 + len(PACKET)] == PACKET
    assert data.endswith(struct.pack("=IIII", 1234, 500_000, 5, 5) + b"\x60rest")


def test_a_packet_that_cannot_be_written_down_ends_it(buffer: memoryview) -> None:
    inner = MemoryDevice()
    with open("/dev/full", "ab", buffering=0) as full:
        device = CapturingDevice(inner, full.fileno(), lambda: 0.0)
        inner.from_guest.append(HEADER + PACKET)
        with pytest.raises(CaptureError):
            device.read_into(buffer)


def test_what_the_device_did_not_take_is_not_in_the_capture(tmp_path: Path) -> None:
    inner = MemoryDevice()
    inner.write = lambda parts: False  # type: ignore[method-assign]
    with open(tmp_path / "capture", "ab", buffering=0) as file:
        assert not CapturingDevice(inner, file.fileno(), lambda: 0.0).write([HEADER, b"\x60"])
        assert file.tell() == 0
