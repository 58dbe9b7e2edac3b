# SPDX-License-Identifier: GPL-3.0-or-later
"""No way to this machine or round torbox: interfaces, addresses, families of sockets, the resolver."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

from torbox.verify.probes.frame import Facts, probe, seen, text_of

PATIENCE_S = 1.5  # for a connection that nobody answers; all are tried at once
AF_VSOCK, AF_XDP, AF_PACKET, AF_ALG, AF_BLUETOOTH, AF_QIPCRTR = 40, 44, 17, 38, 31, 42
NETLINK_KOBJECT_UEVENT, NETLINK_AUDIT, NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 15, 9, 4, 12


@probe("network", "no interface but lo and the tun")
def interfaces(facts: Facts) -> Iterator[str]:
    for _, name in socket.if_nameindex():
        if name not in ("lo", "tun0"):
            yield f"interface {name}"


@probe("network", "TCP to this machine: loopback, own addresses, disguised ones")
def tcp_to_the_host(facts: Facts) -> Iterator[str]:
    heard: list[str] = []

    def attempt(address: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.settimeout(PATIENCE_S)
                sock.connect((address, port))
                if sock.recv(64) == facts["nonce"].encode():
                    heard.append(f"connected to {address}")
        except OSError:
            pass

    attempts = [threading.Thread(target=attempt, args=pair) for pair in facts["tcp"]]
    for each in attempts:
        each.start()
    for each in attempts:
        each.join()
    yield from heard


@probe("network", "UDP to this machine")
def udp_to_the_host(facts: Facts) -> Iterator[str]:
    """The bait tells outside whether it came; inside all that can be done is to send."""
    for address, port in facts["udp"]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.sendto(facts["nonce"].encode(), (address, port))
        except OSError:
            pass
    yield from ()


@probe("network", "families of sockets that no namespace holds")
def families(facts: Facts) -> Iterator[str]:
    raw, stream, dgram = socket.SOCK_RAW, socket.SOCK_STREAM, socket.SOCK_DGRAM
    kinds = {
        "AF_VSOCK": (AF_VSOCK, stream, 0),
        "AF_XDP": (AF_XDP, raw, 0),
        "AF_PACKET": (AF_PACKET, raw, 0),
        "AF_ALG": (AF_ALG, socket.SOCK_SEQPACKET, 0),
        "AF_BLUETOOTH": (AF_BLUETOOTH, stream, 3),
        "AF_QIPCRTR": (AF_QIPCRTR, dgram, 0),
        "raw IPv4": (socket.AF_INET, raw, socket.IPPROTO_ICMP),
        "raw IPv6": (socket.AF_INET6, raw, socket.IPPROTO_ICMPV6),
        "netlink of devices": (socket.AF_NETLINK, raw, NETLINK_KOBJECT_UEVENT),
        "netlink of audit": (socket.AF_NETLINK, raw, NETLINK_AUDIT),
        "netlink of sockets": (socket.AF_NETLINK, raw, NETLINK_SOCK_DIAG),
        "netlink of netfilter": (socket.AF_NETLINK, raw, NETLINK_NETFILTER),
    }
    for name, kind in kinds.items():
        try:
            socket.socket(*kind).close()
        except OSError:
            continue
        yield name


@probe("names", "one resolver, the gateway, and no daemon of the host")
def resolver(facts: Facts) -> Iterator[str]:
    for line in text_of("/etc/resolv.conf").splitlines():
        word, _, value = line.partition(" ")
        if word == "nameserver" and value.strip() not in ("10.0.2.2", "fd00::2"):
            yield f"nameserver {value}"
        elif word in ("search", "domain"):
            yield line
    for line in text_of("/etc/nsswitch.conf").splitlines():
        if line.startswith("hosts:") and line.split()[1:] != ["files", "dns"]:
            yield line
    for path in (
        "/run/nscd/socket",
        "/var/run/nscd/socket",
        "/run/systemd/resolve",
        "/run/avahi-daemon/socket",
    ):
        if os.path.exists(path):
            yield path
    yield from (f"/etc/hosts tells {name}" for name in seen(facts, text_of("/etc/hosts")))
