# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports for programs that open their own sockets, and listening sockets for those that inherit them."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_LOWEST = 10_000  # below live the daemons an ordinary machine runs


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    """TCP ports on which nothing listens at `address`, each given once.

    They lie below the range that the kernel gives to outgoing connections: a port picked from that
    range could be taken by one of tor's own connections before the tor it was meant for starts.
    """
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    below = range(_LOWEST, ephemeral) if ephemeral > _LOWEST + 1000 else range(_LOWEST, 65_536)
    found: list[int] = []
    for port in random.sample(below, k=min(len(below), 50 * count)):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"fewer than {count} ports are free at {address}")


def listen_tcp(address: str) -> socket.socket:
    """A socket that listens at a port of the kernel's choice: no one can take it in between."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((address, 0))
    listener.listen(512)
    return listener


def bind_udp(address: str) -> socket.socket:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind((address, 0))
    return receiver
