# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything real: a kernel in a namespace of its own, its tun, a worker process, and a SOCKS server.

with Live() as live:
    live.ask(function, argument)       runs inside the namespace, where it has every capability
    live.worker.resident(), live.worker.counters()
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.netstack.kernel import KernelGuest
from tests.siege.far_end import FarEnd
from torbox import report

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
MESSAGE_MAX = 1 << 20  # bytes of an answer from inside


class Worker:
    def __init__(self, url: str, tun: int) -> None:
        ready, ready_there = os.pipe()
        stop_there, self._stop = os.pipe()
        self._told, told_there = os.pipe()
        given = (tun, ready_there, stop_there, told_there)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.siege.worker", url, *map(str, given)], cwd=ROOT, pass_fds=given
        )
        for descriptor in given[1:]:
            os.close(descriptor)
        with open(ready, "rb", buffering=0):
            assert report.hear(ready, lambda *_: None) is None, "the worker did not start"
        self._lines = b""

    def _of(self, file: str, key: str) -> int:
        """A size of this process from /proc, in bytes."""
        text = Path(f"/proc/{self._process.pid}/{file}").read_text()
        return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(f"{key}:"))

    def resident(self) -> int:
        return self._of("status", "VmRSS")

    def proportional(self) -> int:
        return self._of("smaps_rollup", "Pss")

    def counters(self) -> dict[str, Any]:
        self._process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + PATIENCE_S
        while b"\n" not in self._lines:
            assert select.select([self._told], [], [], max(0.0, end - time.monotonic()))[0], "no answer"
            data = os.read(self._told, 1 << 16)
            assert data, "the worker died"
            self._lines += data
        line, _, self._lines = self._lines.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def until(
        self, happened: Callable[[dict[str, Any]], object], limit_s: float = PATIENCE_S
    ) -> dict[str, Any]:
        """Ask for the counters again and again until they are as wished."""
        end = time.monotonic() + limit_s
        while not happened(counters := self.counters()):
            assert time.monotonic() < end, counters
            time.sleep(0.05)
        return counters

    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        os.close(self._stop)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._told)


def _obey(commands: socket.socket) -> None:
    """What the child in the namespace does: functions that it is told, one after another."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
        file.write("2048 64999")
    while message := commands.recv(1 << 16):
        function, arguments = pickle.loads(message)
        try:
            answer = (True, function(*arguments))
        except BaseException:
            answer = (False, traceback.format_exc())
        commands.send(pickle.dumps(answer))


class Live:
    def __init__(self, path: str = "", mtu: int = 65520) -> None:
        self._far = FarEnd(path)
        self._mtu = mtu
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Live:
        with self._stack:
            far = self._stack.enter_context(self._far)
            self._commands, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._stack.callback(self._commands.close)
            for sock in (self._commands, inside):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MESSAGE_MAX)
            guest = self._stack.enter_context(KernelGuest(functools.partial(_obey, inside), self._mtu))
            inside.close()
            self.worker = Worker(far.url, guest.tun)
            self._stack.callback(self.worker.close)
            guest.outside.send(b"go")
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def tell(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have a function of a module run inside; `answer` waits for it."""
        self._commands.send(pickle.dumps((function, arguments)))

    def answered(self, wait_s: float) -> bool:
        """Whether the answer is there, or comes in this time."""
        return bool(select.select([self._commands], [], [], wait_s)[0])

    def answer(self, limit_s: float = 60.0) -> Any:
        assert select.select([self._commands], [], [], limit_s)[0], "no answer from inside"
        message = self._commands.recv(MESSAGE_MAX)
        fine, result = pickle.loads(message) if message else (False, "the child died")
        assert fine, result
        return result

    def ask(self, function: Callable[..., Any], *arguments: Any, limit_s: float = 60.0) -> Any:
        self.tell(function, *arguments)
        return self.answer(limit_s)
