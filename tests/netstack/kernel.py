# SPDX-License-Identifier: GPL-3.0-or-later
"""A real kernel as the guest: a child in its own user and network namespaces, whose tun we are given.

    with KernelGuest(work, mtu=65520) as guest:      # `work` runs inside
        result = guest.run(turn)                     # the stack's loop out here

The child is forked, enters the namespaces, opens and configures the tun, passes the descriptor over a Unix
socket, and runs one function; what that returns or raises comes back pickled.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from torbox.netstack.device import TunDevice

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
TUNSETVNETHDRSZ = 0x400454D8
TUNSETOFFLOAD = 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
OFFLOADS = (0x6F, 0x0F, 0)  # with USO, without, none
LIMIT_S = 60.0

Turn = Callable[[float], float]


class KernelGuest:
    def __init__(
        self,
        work: Callable[[], Any],
        mtu: int = 65520,
        *,
        vnet_hdr: bool = True,
        offload: bool = True,
    ) -> None:
        """`offload` false: the guest's kernel leaves nothing to us, and we only checksums to it.

        `vnet_hdr` false: neither leaves anything to the other.
        """
        self._work = work
        self.mtu = mtu
        self.vnet_hdr = vnet_hdr
        self.offload = offload
        self.outside, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if not self.pid:
            status = 1
            try:
                self.outside.close()
                self._child(inside)
                status = 0
            except BaseException:
                inside.send(pickle.dumps((False, traceback.format_exc())))
            finally:
                os._exit(status)
        inside.close()
        message, descriptors, _, _ = socket.recv_fds(self.outside, 65536, 1)
        if not descriptors:
            self.close()
            why = pickle.loads(message)[1] if message else "no answer"
            pytest.fail(f"no tun in a namespace of our own:\n{why}")
        self.tun = descriptors[0]
        os.set_blocking(self.tun, False)
        self.device = TunDevice(self.tun, mtu, vnet_hdr=vnet_hdr, gso=offload)

    def _child(self, inside: socket.socket) -> None:
        uid, gid = os.getuid(), os.getgid()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        flags = IFF_TUN | IFF_NO_PI | (IFF_VNET_HDR if self.vnet_hdr else 0)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"tun0", flags))
        if self.vnet_hdr:
            fcntl.ioctl(tun, TUNSETVNETHDRSZ, struct.pack("i", 10))
            for offload in OFFLOADS if self.offload else (0,):
                try:
                    fcntl.ioctl(tun, TUNSETOFFLOAD, offload)
                    break
                except OSError:
                    continue
        for command in (
            "link set lo up",
            f"link set tun0 mtu {self.mtu} txqueuelen 5000 up",
            "address add 10.0.2.100/24 dev tun0",
            "-6 address add fd00::100/64 dev tun0 nodad",
            "route add default via 10.0.2.2",
            "-6 route add default via fd00::2 dev tun0",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        socket.send_fds(inside, [b"tun"], [tun])
        os.close(tun)
        if inside.recv(16):
            inside.send(pickle.dumps((True, self._work())))
            inside.recv(1)  # the namespace, and with it the tun, lives until the other end is closed

    def run(self, turn: Turn, limit_s: float = LIMIT_S) -> Any:
        """Have the child do its work, while `turn(now)` runs the stack and returns its next deadline."""
        self.outside.send(b"go")
        self.until(turn, lambda: bool(self._answers()), limit_s)
        message = self.outside.recv(1 << 20)
        fine, result = pickle.loads(message) if message else (False, "the child died")
        assert fine, result
        return result

    def _answers(self) -> list[socket.socket]:
        return select.select([self.outside], [], [], 0)[0]

    def until(self, turn: Turn, done: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
        """Run the stack until `done()`, which is asked after each turn."""
        end = time.monotonic() + limit_s
        with select.epoll() as poll:
            poll.register(self.tun, select.EPOLLIN)
            poll.register(self.outside.fileno(), select.EPOLLIN)
            deadline = turn(time.monotonic())
            while not done():
                now = time.monotonic()
                assert now < end, f"not done after {limit_s} s"
                poll.poll(max(0.0, min(deadline, end) - now))
                deadline = turn(time.monotonic())

    def close(self) -> None:
        self.outside.close()
        if hasattr(self, "tun"):
            os.close(self.tun)
            del self.tun
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def __enter__(self) -> KernelGuest:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
