# SPDX-License-Identifier: GPL-3.0-or-later
"""Which devices and which part of /sys a GPU is, in a tree made for the test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torbox.desktop import gpu
from torbox.mounts import Bind, Directory, Symlink

CHAR = Path("/dev/null")  # any character device stands for a node


@pytest.fixture
def machine(tmp_path: Path) -> tuple[str, str]:
    """A /dev and a /sys with one GPU; the nodes lead to a device that every machine has."""
    number = CHAR.stat().st_rdev
    dev, sys = tmp_path / "dev", tmp_path / "sys"
    (dev / "dri").mkdir(parents=True)
    for name in ("dri/renderD128", "dri/card0", "nvidia0", "nvidiactl"):
        (dev / name).symlink_to(CHAR)
    (dev / "dri" / "renderD9").write_text("no device")
    card = sys / "devices" / "pci0000:00" / "0000:00:02.0"
    (card / "drm" / "renderD128").mkdir(parents=True)
    for name in (
        "vendor",
        "device",
        "uevent",
        "unique_id",
        "serial_number",
        "class",
        "rom",
        "drm/renderD128/dev",
        "drm/renderD128/uevent",
    ):
        (card / name).write_text("what is in it")
    (card / "drm" / "card0" / "card0-HDMI-A-1").mkdir(parents=True)
    (card / "drm" / "card0" / "card0-HDMI-A-1" / "edid").write_text("a screen's serial number")
    (sys / "bus" / "pci").mkdir(parents=True)
    (card / "subsystem").symlink_to("../../../bus/pci")
    (sys / "dev" / "char").mkdir(parents=True)
    (sys / "dev" / "char" / f"{os.major(number)}:{os.minor(number)}").symlink_to(card / "drm" / "renderD128")
    return str(dev), str(sys)


def test_render_nodes_and_what_describes_them_are_shared_and_nothing_that_sets_modes(
    machine: tuple[str, str],
) -> None:
    devices, described = gpu.operations(*machine)
    binds = [op for op in devices if isinstance(op, Bind)]
    assert [op.target for op in binds] == ["/dev/dri/renderD128", "/dev/nvidia0", "/dev/nvidiactl"]
    assert all(op.device and not op.read_only for op in binds)
    number = CHAR.stat().st_rdev
    card = "/sys/devices/pci0000:00/0000:00:02.0"
    node = f"{card}/drm/renderD128"
    files = [
        f"{node}/dev",
        f"{node}/uevent",
        f"{card}/class",
        f"{card}/device",
        f"{card}/uevent",
        f"{card}/vendor",
    ]
    assert described == [
        Symlink(f"/sys/dev/char/{os.major(number)}:{os.minor(number)}", node),
        Symlink(f"{node}/device", card),
        *(Bind(machine[1] + file.removeprefix("/sys"), file) for file in files),
        Symlink(f"{card}/subsystem", "/sys/bus/pci"),
        Directory("/sys/bus/pci"),
    ]


def test_nothing_tells_one_gpu_from_another_nor_which_screens_are_plugged_in(
    machine: tuple[str, str],
) -> None:
    _, described = gpu.operations(*machine)
    shared = [op.source for op in described if isinstance(op, Bind)]
    assert all(os.path.isfile(source) for source in shared)
    card = f"{machine[1]}/devices/pci0000:00/0000:00:02.0"
    of_its_model = ("class", "device", "revision", "subsystem_device", "subsystem_vendor", "uevent", "vendor")
    of_the_node = ("drm/renderD128/dev", "drm/renderD128/uevent")
    there = {str(path) for path in Path(card).rglob("*") if path.is_file()}
    assert set(shared) == there & {f"{card}/{name}" for name in of_its_model + of_the_node}
    assert len(there) > len(shared)


def test_a_machine_without_a_gpu_has_nothing_to_share(tmp_path: Path) -> None:
    assert gpu.operations(str(tmp_path), str(tmp_path)) == ([], [])
