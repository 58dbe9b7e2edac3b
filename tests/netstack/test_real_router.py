# SPDX-License-Identifier: GPL-3.0-or-later
"""A container within the sandbox: the guest's kernel is a router, with a smaller link behind it.

    stack ══ tun0, 65520 ── guest ── 1400, veth, 9000 ── container

Towards the container no packet is larger than 1400 bytes, which neither end of a connection knows; the
guest's kernel says so by ICMP. A TTL of 1, and a datagram too large for a way out, are met by the kernel too.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import time
from typing import Any

import pytest

from tests.netstack.kernel import KernelGuest
from tests.netstack.services import ECHO, SOURCE, Services
from torbox.netstack.device import Device
from torbox.netstack.flow import FlowKey
from torbox.netstack.wire.quote import TRANSPORT_SIZE

SIZE = 4 << 20
LINK_MTU = 1400
GUEST_MTU = 65520
TIMESTAMPS = 12  # bytes of options in each segment, RFC 7323 appendix A
SITES = {4: "192.0.2.7", 6: "2001:db8::7"}
FAMILIES = pytest.mark.parametrize("family", [4, 6])

DOWNLOAD = """
import hashlib, socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as sock:
    total = 0
    while data := sock.recv(1 << 20):
        total += len(data)
print(total)
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def container(site: str) -> str:
    """In the guest: a namespace behind a small link, and a download there. What it printed."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "60"])
    inside = f"/proc/{holder.pid}/ns/net"
    try:
        end = time.monotonic() + 10
        while os.readlink(inside) == os.readlink("/proc/self/ns/net"):
            assert time.monotonic() < end
        for path in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            with open(f"/proc/sys/net/{path}", "w") as file:
                file.write("1")
        ip("link", "add", "veth0", "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        ip("address", "add", "172.17.0.1/24", "dev", "veth0")
        ip("-6", "address", "add", "fd11::1/64", "dev", "veth0", "nodad")
        ip("link", "set", "veth0", "mtu", str(LINK_MTU), "up")
        within = ["nsenter", f"--net={inside}"]
        for command in (
            "link set eth0 mtu 9000 up",
            "address add 172.17.0.2/24 dev eth0",
            "-6 address add fd11::2/64 dev eth0 nodad",
            "route add default via 172.17.0.1",
            "-6 route add default via fd11::1 dev eth0",
        ):
            subprocess.run([*within, "ip", *command.split()], check=True)
        python = ["/usr/bin/env", "python3", "-c", DOWNLOAD, site, str(SOURCE)]
        return subprocess.run([*within, *python], check=True, capture_output=True, text=True).stdout.strip()
    finally:
        holder.kill()
        holder.wait()


class Watching(Services):
    """Notes the smallest segments each connection was brought down to."""

    def __init__(self, device: Device, now: float) -> None:
        super().__init__(device, now, size=SIZE)
        self.least_mss = 1 << 16

    def turn(self, now: float) -> float:
        again = super().turn(now)
        for connection in self.stack.connections.values():
            self.least_mss = min(self.least_mss, connection.sender.mss)
        return again


@FAMILIES
def test_a_connection_to_a_container_behind_a_smaller_link_finds_its_size(family: int) -> None:
    def work() -> str:
        return container(SITES[family])

    with KernelGuest(work, mtu=GUEST_MTU) as guest:
        services = Watching(guest.device, time.monotonic())
        assert guest.run(services.turn) == str(SIZE)
        assert services.stack.counters.complaints > 0, "the guest's kernel had no reason to complain"
        assert services.least_mss == LINK_MTU - (40 if family == 4 else 60) - TIMESTAMPS


def error_of(sock: socket.socket, address: tuple[str, int]) -> str:
    """What a socket says after sending; again and again, for a datagram may be lost."""
    sock.connect(address)
    sock.settimeout(1)
    for _ in range(20):
        try:
            sock.send(bytes(10))
            sock.recv(1)
        except TimeoutError:
            continue
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
    return "silence"


@FAMILIES
def test_a_ttl_of_one_is_told_of_in_words_that_the_kernel_understands(family: int) -> None:
    def work() -> str:
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        with socket.socket(kind, socket.SOCK_DGRAM) as sock:
            if family == 4:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
                sock.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, 25, 1)  # IPV6_RECVERR
            return error_of(sock, (SITES[family], ECHO))

    with KernelGuest(work, mtu=GUEST_MTU) as guest:
        assert guest.run(Services(guest.device, time.monotonic()).turn) == "EHOSTUNREACH"


class Narrow(Services):
    """Says of the first datagram of each size over 1400 that it is too large."""

    def udp_arrived(self, key: FlowKey, payload: memoryview) -> bool:
        if len(payload) + TRANSPORT_SIZE + 40 > LINK_MTU and not self.stack.datagram_may_fragment:
            self.stack.datagram_too_big(key, LINK_MTU)
            return True
        return super().udp_arrived(key, payload)


@FAMILIES
def test_the_kernel_learns_what_a_way_out_carries_and_cuts_what_is_larger(family: int) -> None:
    def work() -> Any:
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        with socket.socket(kind, socket.SOCK_DGRAM) as sock:
            sock.connect((SITES[family], ECHO))
            sock.settimeout(0.2)
            got = []
            for _ in range(50):  # the first is lost, as on any path; the kernel fragments what follows
                sock.send(bytes(3000))
                try:
                    got.append(len(sock.recv(1 << 16)))
                    break
                except OSError:  # EMSGSIZE of an earlier one, or silence
                    continue
            level, option = (0, 14) if family == 4 else (41, 24)  # IP_MTU, IPV6_MTU
            return got, sock.getsockopt(level, option)

    with KernelGuest(work, mtu=GUEST_MTU) as guest:
        assert guest.run(Narrow(guest.device, time.monotonic()).turn) == ([3000], LINK_MTU)
