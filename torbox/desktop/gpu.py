# SPDX-License-Identifier: GPL-3.0-or-later
"""Render nodes for Mesa, and the little of /sys by which libdrm tells what they are.

    /dev/dri/renderD128                        the node; card0, which sets screens' modes, stays outside
    /sys/dev/char/226:128 ─► …/drm/renderD128  where libdrm begins (drmGetDevice2)
    /sys/devices/…/0000:00:02.0                the GPU: vendor, device, uevent and a few more files
      …/subsystem ─► /sys/bus/pci              whose name alone is asked for
      …/drm/renderD128/device ─► the GPU

Files are bound one by one, read-only, and nothing else of /sys is there: in the GPU's directory are also the
serial number of amdgpu's cards (unique_id), and those of the screens that are plugged in (drm/card0-…/edid).
NVIDIA's own driver has devices of other names, and needs no /sys.
"""

from __future__ import annotations

import os
import re
import stat

from torbox.mounts import Bind, Directory, MountOp, Symlink

_RENDER_NODE = re.compile(r"dri/renderD\d+")
# What libdrm reads (xf86drm.c), none of which tells one GPU from another of its model.
_OF_THE_GPU = ("class", "device", "revision", "subsystem_device", "subsystem_vendor", "uevent", "vendor")
_OF_THE_NODE = ("dev", "uevent")
_NVIDIA = re.compile(r"nvidia(\d+|ctl|-modeset|-uvm|-uvm-tools)")


def operations(dev: str = "/dev", sys: str = "/sys") -> tuple[list[MountOp], list[MountOp]]:
    """What goes into /dev, and into /sys: both empty where there is no GPU that programs can use."""
    devices: list[MountOp] = []
    described: dict[str, MountOp] = {}
    for name in _nodes(dev):
        source = os.path.realpath(f"{dev}/{name}")
        devices.append(Bind(source, f"/dev/{name}", read_only=False, device=True, origin=f"/dev/{name}"))
        if not name.startswith("dri/"):
            continue
        number = os.stat(source).st_rdev
        char = f"/sys/dev/char/{os.major(number)}:{os.minor(number)}"
        node = os.path.realpath(f"{sys}{char.removeprefix('/sys')}")
        if not node.startswith(f"{os.path.realpath(sys)}/devices/"):
            continue  # Mesa then takes the node for one it does not know
        inside = "/sys" + node.removeprefix(os.path.realpath(sys))
        described[char] = Symlink(char, inside)
        gpu = inside.partition("/drm/")[0]
        described[f"{inside}/device"] = Symlink(f"{inside}/device", gpu)
        for directory, names in ((inside, _OF_THE_NODE), (gpu, _OF_THE_GPU)):
            outside = os.path.realpath(sys) + directory.removeprefix("/sys")
            for file in (f"/{each}" for each in names if os.path.isfile(f"{outside}/{each}")):
                described[directory + file] = Bind(outside + file, directory + file)
        subsystem = os.path.realpath(f"{sys}{gpu.removeprefix('/sys')}/subsystem")
        if subsystem.startswith(f"{os.path.realpath(sys)}/bus/"):
            bus = "/sys" + subsystem.removeprefix(os.path.realpath(sys))
            described[f"{gpu}/subsystem"] = Symlink(f"{gpu}/subsystem", bus)
            described[bus] = Directory(bus)
    return devices, list(described.values())


def _nodes(dev: str) -> list[str]:
    found = [f"dri/{name}" for name in _listed(f"{dev}/dri")] + _listed(dev)
    return sorted(
        name
        for name in found
        if (_RENDER_NODE.fullmatch(name) or _NVIDIA.fullmatch(name)) and _is_device(f"{dev}/{name}")
    )


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _is_device(path: str) -> bool:
    try:
        return stat.S_ISCHR(os.stat(path).st_mode)
    except OSError:
        return False
