# SPDX-License-Identifier: GPL-3.0-or-later
"""In the new network namespace: lo, the tun and its queues, addresses and routes.

    guest 10.0.2.100/24  ─┐                 ┌─ gateway 10.0.2.2 (DNS)
    guest fd00::100/64   ─┴─ tun0 ═ stack ══┴─ gateway fd00::2

Plain ioctls on a few sockets (netdevice(7), ipv6(7), drivers/net/tun.c): 1.3 ms in all, where the
import of pyroute2 alone costs 115 ms; so pyroute2 serves where nobody waits for a start.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from dataclasses import dataclass

from torbox.errors import SetupError
from torbox.userns import GID_INSIDE

DEVICE = "tun0"
GUEST_V4 = "10.0.2.100"
GATEWAY_V4 = "10.0.2.2"
PREFIX_V4 = 24
GUEST_V6 = "fd00::100"
GATEWAY_V6 = "fd00::2"
PREFIX_V6 = 64

TUN_PATH = "/dev/net/tun"

# Packets that wait for the stack. With the kernel's 500, thousands of connections that send at once
# overflow it, and what was lost waits for its retransmission.
QUEUE_LENGTH = 5000

# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_TUNSETVNETHDRSZ = 0x400454D8
_IFF_TUN = 0x0001
_IFF_MULTI_QUEUE = 0x0100
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_OFFLOADS = (
    0x6F,  # CSUM, TSO4, TSO6, TSO_ECN, USO4, USO6: Linux 6.2
    0x0F,  # CSUM, TSO4, TSO6, TSO_ECN
    0x00,  # packets of at most one MTU, with their checksums
)
VNET_HEADER_BYTES = 10  # struct virtio_net_hdr

# linux/sockios.h
_SIOCADDRT = 0x890B
_SIOCSIFFLAGS = 0x8914
_SIOCSIFADDR = 0x8916
_SIOCSIFNETMASK = 0x891C
_SIOCSIFMTU = 0x8922
_SIOCGIFINDEX = 0x8933
_IFF_UP = 0x1

# linux/rtnetlink.h, linux/netlink.h, linux/if_link.h
_NETLINK_ROUTE = 0
_RTM_NEWLINK = 16
_NLM_F_REQUEST = 1
_NLM_F_ACK = 4
_IFLA_TXQLEN = 13

# linux/route.h, linux/ipv6_route.h
_RTF_UP = 0x1
_RTF_GATEWAY = 0x2
_RTENTRY_BYTES = 120
_METRIC_V6 = 1024


@dataclass(frozen=True, slots=True)
class Tun:
    """An open tun: one descriptor per queue, non-blocking; `gso` tells that super-packets may pass."""

    queues: tuple[int, ...]
    mtu: int
    gso: bool


def open_tun(queues: int, mtu: int) -> Tun:
    """Create DEVICE with this many queues. Raises SetupError with advice."""
    flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR | (_IFF_MULTI_QUEUE if queues > 1 else 0)
    descriptors: list[int] = []
    gso = False
    try:
        for _ in range(queues):
            descriptor = os.open(TUN_PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            descriptors.append(descriptor)
            fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), flags))
            fcntl.ioctl(descriptor, _TUNSETVNETHDRSZ, struct.pack("i", VNET_HEADER_BYTES))
            gso = _set_offload(descriptor)
    except OSError as error:
        number = error.errno or 0
        raise SetupError("open the tun", number, TUN_PATH, advice=tun_advice(number)) from error
    return Tun(tuple(descriptors), mtu, gso)


def _set_offload(descriptor: int) -> bool:
    for offload in _OFFLOADS:
        try:
            fcntl.ioctl(descriptor, _TUNSETOFFLOAD, offload)
        except OSError as error:
            if error.errno != errno.EINVAL or not offload:
                raise
            continue
        return bool(offload)
    return False


def tun_advice(number: int) -> str:
    """What to do when /dev/net/tun cannot be opened or set up, by errno."""
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return "The kernel's tun driver is not there; load it with\n  sudo modprobe tun"
    if number in (errno.EACCES, errno.EPERM):
        return (
            "The tun device is closed to this user, which is unusual and protects nothing; open it with\n"
            "  sudo chmod 0666 /dev/net/tun"
        )
    return ""


def configure(tun: Tun, *, ipv6: bool) -> None:
    """Bring lo and the tun up, with addresses and default routes. Raises SetupError."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            _set_flags(control, "lo")
            fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("16si20x", DEVICE.encode(), tun.mtu))
            _set_ipv4(control)
            _set_queue_length(_index(control))
            # IPv6 of its own on every link would announce itself; only the addresses given here exist.
            _set_sysctl(f"net/ipv6/conf/{DEVICE}/addr_gen_mode", "1", wanted=ipv6)
            _set_sysctl(f"net/ipv6/conf/{DEVICE}/accept_ra", "0", wanted=ipv6)
            if not ipv6:
                _set_sysctl(f"net/ipv6/conf/{DEVICE}/disable_ipv6", "1", wanted=False)
            # The gateway answers ping, which needs no raw socket where the group may use it (icmp(7)).
            _set_sysctl("net/ipv4/ping_group_range", f"{GID_INSIDE} {GID_INSIDE}", wanted=True)
            _set_flags(control, DEVICE)
            fcntl.ioctl(control, _SIOCADDRT, _default_route_v4())
            if ipv6:
                _set_ipv6(_index(control))
    except OSError as error:
        advice = ""
        if ipv6 and not os.path.exists("/proc/sys/net/ipv6"):
            advice = "This kernel has no IPv6; say so in the profile: ipv6 = false in [net]."
        detail = error.filename or DEVICE
        raise SetupError("configure the network", error.errno or 0, detail, advice=advice) from error


def _set_sysctl(name: str, value: str, *, wanted: bool) -> None:
    """Write a sysctl of this network namespace; one that this kernel has not only matters when wanted."""
    try:
        with open(f"/proc/sys/{name}", "w") as file:
            file.write(value)
    except FileNotFoundError:
        if wanted:
            raise


def _set_flags(control: socket.socket, device: str) -> None:
    fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", device.encode(), _IFF_UP))


def _sockaddr_v4(address: str) -> bytes:
    return struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))


def _set_ipv4(control: socket.socket) -> None:
    mask = socket.inet_ntoa(struct.pack("!I", 0xFFFFFFFF << (32 - PREFIX_V4) & 0xFFFFFFFF))
    for request, address in ((_SIOCSIFADDR, GUEST_V4), (_SIOCSIFNETMASK, mask)):
        fcntl.ioctl(control, request, struct.pack("16s16s8x", DEVICE.encode(), _sockaddr_v4(address)))


def _default_route_v4() -> bytes:
    """struct rtentry of linux/route.h: pad, dst, gateway, genmask, flags; what follows is zero."""
    anywhere, gateway = _sockaddr_v4("0.0.0.0"), _sockaddr_v4(GATEWAY_V4)
    head = struct.pack("@L16s16s16sH", 0, anywhere, gateway, anywhere, _RTF_UP | _RTF_GATEWAY)
    return head.ljust(_RTENTRY_BYTES, b"\0")


def _index(control: socket.socket) -> int:
    request = struct.pack("16si20x", DEVICE.encode(), 0)
    index: int = struct.unpack_from("i", fcntl.ioctl(control, _SIOCGIFINDEX, request), 16)[0]
    return index


def _set_queue_length(index: int) -> None:
    """IFLA_TXQLEN by rtnetlink(7): the ioctl of old wants the capability in the first user namespace."""
    attribute = struct.pack("=HHI", 8, _IFLA_TXQLEN, QUEUE_LENGTH)
    link = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, 0, 0)
    flags = _NLM_F_REQUEST | _NLM_F_ACK
    header = struct.pack("=IHHII", 16 + len(link) + len(attribute), _RTM_NEWLINK, flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as route:
        route.send(header + link + attribute)
        error = -struct.unpack_from("=i", route.recv(4096), 16)[0]  # struct nlmsgerr, behind the header
    if error:
        raise OSError(error, os.strerror(error))


def _set_ipv6(index: int) -> None:
    """Address and default route by struct in6_ifreq and struct in6_rtmsg (linux/ipv6.h, ipv6_route.h).

    A tun is IFF_NOARP, so the address needs no duplicate detection and serves at once.
    """
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control6:
        address = socket.inet_pton(socket.AF_INET6, GUEST_V6)
        fcntl.ioctl(control6, _SIOCSIFADDR, struct.pack("16sIi", address, PREFIX_V6, index))
        gateway = socket.inet_pton(socket.AF_INET6, GATEWAY_V6)
        route = struct.pack(
            "@16s16s16sIHHILIi",
            bytes(16),
            bytes(16),
            gateway,
            0,  # rtmsg_type
            0,  # dst_len
            0,  # src_len
            _METRIC_V6,
            0,  # info
            _RTF_UP | _RTF_GATEWAY,
            index,
        )
        fcntl.ioctl(control6, _SIOCADDRT, route)
