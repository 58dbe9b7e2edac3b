# SPDX-License-Identifier: GPL-3.0-or-later
"""This machine's own resolver, asked without making the loop wait.

    loop ─► questions (bounded) ─► a thread in getaddrinfo(3) ─► answers ─► eventfd ─► loop, `done`

getaddrinfo blocks for as long as a name server is silent, 10 s and more, so a few threads ask; they are
made with the first question, and a worker that has none never has more than its one thread. They are
daemons: the end of the process does not wait for a name server.

A name is asked for as it is, its final dot added, so that no search domain turns it into another. What
comes back is not to be trusted: the relay judges each address when the guest connects to it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from torbox.upstream.interface import Reactor, Resolution

THREADS = 8  # each may wait for a silent name server; more would only ask that one more often
MAX_QUESTIONS = 256  # waiting for a thread; as many as the name service lets be under way
TTL_S = 60  # getaddrinfo(3) does not tell the true one
NEGATIVE_TTL_S = 5

_FAMILIES = {"A": socket.AF_INET, "AAAA": socket.AF_INET6}
# What says that there is no such name or no such address of it; any other error: nobody could say.
_NOTHING = frozenset((socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY))

Done = Callable[[Resolution], None]
Ask = Callable[[bytes, str], Resolution]


class _Question(NamedTuple):
    name: bytes
    kind: str
    done: Done


def ask_system(name: bytes, kind: str) -> Resolution:
    """Resolve a name ("A", "AAAA") or a packed address ("PTR"). Blocks; raises nothing."""
    try:
        if kind == "PTR":
            family = socket.AF_INET6 if len(name) == 16 else socket.AF_INET
            place = (socket.inet_ntop(family, name), 0)
            host, _ = socket.getnameinfo(place, socket.NI_NAMEREQD)
            return Resolution((host.encode("ascii").removesuffix(b"."),), TTL_S)
        family = _FAMILIES[kind]
        found = socket.getaddrinfo(name + b".", None, family, socket.SOCK_STREAM)
        texts = dict.fromkeys(str(entry[4][0]) for entry in found)
        return Resolution(tuple(socket.inet_pton(family, text) for text in texts), TTL_S)
    except socket.gaierror as error:
        return Resolution((), NEGATIVE_TTL_S, failed=error.errno not in _NOTHING)
    except (OSError, ValueError, KeyError):  # an address with a scope, a name that is no ASCII: no answer
        return Resolution((), NEGATIVE_TTL_S, failed=True)


class Resolver:
    """`resolve` never waits; `done` is called once, in a later turn of the loop. `close` forgets the rest.

    All descriptors that it needs it has from the start, because a guest can use up what this process may
    have; and processes too, so a thread that cannot be had is done without.
    """

    def __init__(self, reactor: Reactor, ask: Ask = ask_system) -> None:
        """OSError if there is no descriptor for it."""
        self._reactor = reactor
        self._ask = ask
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._changed = threading.Condition()
        self._questions: deque[_Question] = deque()
        self._answers: deque[tuple[Done, Resolution]] = deque()
        self._idle = 0
        self._threads = 0
        self._closed = False
        reactor.register(self._wake, self._ready)

    def resolve(self, name: bytes, kind: str, done: Done) -> None:
        with self._changed:
            if self._idle <= len(self._questions) and self._threads < THREADS:
                self._start_thread()
            if len(self._questions) >= MAX_QUESTIONS or not self._threads:
                self._reactor.call_at(self._reactor.now, lambda: done(Resolution(failed=True)))
                return
            self._questions.append(_Question(name, kind, done))
            self._changed.notify()

    def _start_thread(self) -> None:
        """One more, if the limits of this user and of its control group let it (RLIMIT_NPROC, pids.max)."""
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=self._work, daemon=True).start()
            self._threads += 1

    def _work(self) -> None:
        """One thread: ask what there is to ask, to the end."""
        while (question := self._next()) is not None:
            self._answered(question.done, self._ask(question.name, question.kind))

    def _next(self) -> _Question | None:
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._questions or self._closed)
            self._idle -= 1
            return None if self._closed else self._questions.popleft()

    def _answered(self, done: Done, answer: Resolution) -> None:
        with self._changed:
            if not self._closed:  # else the descriptor's number may be another's by now
                self._answers.append((done, answer))
                os.eventfd_write(self._wake, 1)

    def _ready(self, events: int) -> None:
        if not events & select.EPOLLIN:  # that it could be written to is no news
            return
        with self._changed:
            os.eventfd_read(self._wake)
            answers, self._answers = self._answers, deque()
        for done, answer in answers:
            done(answer)

    def close(self) -> None:
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._questions.clear()
            self._answers.clear()
            self._changed.notify_all()
            self._reactor.unregister(self._wake)
            os.close(self._wake)
