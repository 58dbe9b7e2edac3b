# SPDX-License-Identifier: GPL-3.0-or-later
"""This machine: what it is called and reached by, and whether it runs on battery.

Addresses come from the kernel by rtnetlink (one dump of RTM_GETADDR: rtnetlink(7), some 50 µs); names
from uname(2) and /etc/hosts, which a proxy that resolves on this machine answers from. Both are there so
that a proxy on it is not asked for the way back to it, and are as they are at the moment of asking;
addresses that come later are not known.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct

# linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h
_NLMSG = struct.Struct("=IHHII")  # length with this header, type, flags, sequence, port
_IFADDRMSG = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, interface
_RTATTR = struct.Struct("=HH")  # length with this header, type
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_RTM_NEWADDR = 20
_RTM_GETADDR = 22
_RTM_NEWROUTE = 24
_RTM_GETROUTE = 26
_NLM_F_REQUEST = 0x001
_NLM_F_DUMP = 0x300
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, two prefix lengths, TOS, table, protocol, scope, type, flags
_RTA_DST = 1
_RTN_UNICAST = 1  # somebody else; the other types are this machine, many machines, or nobody
_IFA_ADDRESS = 1  # on a point-to-point link the other end's
_IFA_LOCAL = 2  # ours; absent for IPv6, but where there is another end
_DUMP_BYTES = 1 << 16  # the kernel sends at most 32 KiB at once

# Somebody far away, to ask the kernel for a route to: a.root-servers.net, which does not move.
_FAR = ("198.41.0.4", "2001:503:ba3e::2:30")

HOSTS = "/etc/hosts"
POWER_SUPPLIES = "/sys/class/power_supply"


def addresses() -> tuple[str, ...]:
    """Every address of every interface, IPv4 and IPv6, as text. OSError if the kernel does not say."""
    request = _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    size = _NLMSG.size + len(request)
    header = _NLMSG.pack(size, _RTM_GETADDR, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0)
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE) as kernel:
        kernel.send(header + request)
        found: dict[str, None] = {}
        while _read(kernel.recv(_DUMP_BYTES), found):
            pass
    return tuple(found)


def _read(data: bytes, found: dict[str, None]) -> bool:
    """Add the addresses of one part of the dump; false if it was the last."""
    at = 0
    while at + _NLMSG.size <= len(data):
        length, kind, _, _, _ = _NLMSG.unpack_from(data, at)
        if kind == _NLMSG_DONE:
            return False
        if kind == _NLMSG_ERROR:
            number = -struct.unpack_from("=i", data, at + _NLMSG.size)[0]
            raise OSError(number, os.strerror(number))
        if kind == _RTM_NEWADDR:
            address = _local_address(data, at + _NLMSG.size, at + length)
            if address:
                found[address] = None
        at += _aligned(length)
    return True


def _local_address(data: bytes, at: int, end: int) -> str:
    family = data[at]
    if family not in (socket.AF_INET, socket.AF_INET6):
        return ""
    at += _IFADDRMSG.size
    attributes: dict[int, bytes] = {}
    while at + _RTATTR.size <= end:
        length, kind = _RTATTR.unpack_from(data, at)
        attributes[kind] = data[at + _RTATTR.size : at + length]
        at += _aligned(max(length, _RTATTR.size))
    packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    return socket.inet_ntop(family, packed) if packed else ""


class Routes:
    """Where the kernel takes an address now; some 10 µs each. `close` when done."""

    def __init__(self) -> None:
        """OSError if there can be no socket for it."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._kernel = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._sequence = 0

    def leads_away(self, address: bytes) -> bool:
        """Whether packets for this packed address leave for another machine.

        False for every address of this machine's own, however it came to it and since when, local ranges
        among them, and for broadcast, multicast and anycast. OSError as connect(2): no route, or forbidden.
        """
        self._ask(address)
        while True:  # answered within send(2); what a failed call left unread comes before it
            data = self._kernel.recv(_DUMP_BYTES)
            _, kind, _, sequence, _ = _NLMSG.unpack_from(data)
            if sequence != self._sequence:
                continue
            if kind == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", data, _NLMSG.size)[0]
                raise OSError(number, os.strerror(number))
            return kind == _RTM_NEWROUTE and bool(data[_NLMSG.size + 7] == _RTN_UNICAST)

    def _ask(self, address: bytes) -> None:
        family = socket.AF_INET6 if len(address) == 16 else socket.AF_INET
        self._sequence = self._sequence + 1 & 0xFFFFFFFF
        body = _RTMSG.pack(family, len(address) * 8, 0, 0, 0, 0, 0, 0, 0)
        body += _RTATTR.pack(_RTATTR.size + len(address), _RTA_DST) + address
        self._kernel.send(
            _NLMSG.pack(_NLMSG.size + len(body), _RTM_GETROUTE, _NLM_F_REQUEST, self._sequence, 0) + body
        )

    def close(self) -> None:
        self._kernel.close()


def has_route() -> bool:
    """Whether packets for the Internet would leave this machine by what the kernel says. Nothing is sent."""
    try:
        routes = Routes()
    except OSError:
        return True  # it cannot be asked
    with contextlib.closing(routes):
        for address in _FAR:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with contextlib.suppress(OSError):  # no route, or one that forbids
                if routes.leads_away(socket.inet_pton(family, address)):
                    return True
    return False


def _aligned(length: int) -> int:
    return length + 3 & ~3  # NLMSG_ALIGN, RTA_ALIGN


def names(hosts: str = HOSTS) -> tuple[bytes, ...]:
    """The machine's own name, and every name in its file of hosts; in lower case, without final dots.

    All of that file, for what stands in it is of this machine and its surroundings: Debian gives the
    machine's whole name the address 127.0.1.1 there. A file that cannot be read has no names.
    """
    found = [os.fsencode(os.uname().nodename)]
    try:
        with open(hosts, "rb") as file:
            for line in file:
                found += line.partition(b"#")[0].split()[1:]
    except OSError:
        pass
    return tuple(dict.fromkeys(name.lower().rstrip(b".") for name in found if name.rstrip(b".")))


def on_battery(supplies: str = POWER_SUPPLIES) -> bool:
    """Whether a battery of this machine's own is being emptied; Documentation/ABI/testing/sysfs-class-power.

    A mouse's battery is there too, and says by its scope that it is none of the machine's.
    """
    try:
        names = os.listdir(supplies)
    except OSError:
        return False
    return any(
        _said(f"{supplies}/{name}/status") == b"Discharging"
        and _said(f"{supplies}/{name}/scope") != b"Device"
        for name in names
    )


def _said(path: str) -> bytes:
    """What a file of one line says; nothing if it is not there."""
    try:
        with open(path, "rb") as file:
            return file.read().strip()
    except OSError:
        return b""
