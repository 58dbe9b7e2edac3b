# SPDX-License-Identifier: GPL-3.0-or-later
"""The event loop of one worker: plain epoll, edge-triggered, and a heap of timers.

One turn is: wait, call each ready descriptor's callback, call the timers that are due. `now` is read
once a turn, after the wait. Callbacks may register and unregister whatever they like.

Invariants
  * A descriptor is registered once, for everything; an edge that is not used up must be remembered
    by its owner, for it is not told twice.
  * An event never reaches a descriptor that was registered after the event was fetched. The kernel
    re-uses the lowest free number, so a socket closed and another opened within one batch share one;
    what the newcomer has to say comes with the next wait, for adding a ready descriptor makes an edge.
  * `register_last` keeps one descriptor (the tun) behind all others of its batch: packets are read
    when the sockets' news is already known.

It does not know what an error of a callback means: it lets it through.
"""

from __future__ import annotations

import heapq
import math
import select
import time
from collections.abc import Callable

from torbox.relay.spin import Spin

EVENTS = select.EPOLLIN | select.EPOLLPRI | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
MAX_EVENTS = 256  # one wait; more are fetched by the next, so that timers and the tun get their turn
SWEEP_AT = 512  # timers; cancelled ones are swept out when they are half of at least this many
IDLE_MOST_S = 0.001  # a loop that is never idle makes its idle calls after so many seconds
LONGEST_WAIT_S = 3600.0  # epoll counts milliseconds in an int; nobody minds one empty turn an hour

Ready = Callable[[int], None]


class ReactorTimer:
    """One appointment; `cancel` may be called at any time, also after it was kept."""

    __slots__ = ("_reactor", "callback", "when")

    def __init__(self, reactor: Reactor, when: float, callback: Callable[[], None]) -> None:
        self._reactor = reactor
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self._reactor.timer_cancelled()


class Reactor:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._epoll = select.epoll()
        self._ready: dict[int, Ready] = {}
        self._last_fileno = -1
        self._fresh: set[int] = set()  # registered since the events of this batch were fetched
        self._timers: list[tuple[float, int, ReactorTimer]] = []
        self._order = 0  # appointments of one moment are kept in the order they were made
        self._cancelled = 0
        self._idle_calls: list[Callable[[], None]] = []
        self._idle_since = 0.0  # when the first of them was asked for
        self._spin = Spin()
        self.now = clock()

    def __len__(self) -> int:
        """How many descriptors are registered."""
        return len(self._ready)

    def register(self, fileno: int, ready: Ready) -> None:
        """Call `ready(epoll events)` on every edge. OSError as epoll_ctl(2)."""
        self._epoll.register(fileno, EVENTS)
        self._ready[fileno] = ready
        self._fresh.add(fileno)

    def register_last(self, fileno: int, ready: Ready) -> None:
        """As `register`, for the one descriptor that comes last in each batch."""
        if self._last_fileno >= 0:
            raise ValueError("one descriptor alone can be the last")
        self.register(fileno, ready)
        self._last_fileno = fileno

    def unregister(self, fileno: int) -> None:
        """Forget a descriptor; called before it is closed. One that is not registered is ignored."""
        if self._ready.pop(fileno, None) is None:
            return
        self._fresh.discard(fileno)
        if fileno == self._last_fileno:
            self._last_fileno = -1
        self._epoll.unregister(fileno)

    def call_at(self, when: float, callback: Callable[[], None]) -> ReactorTimer:
        """Call once in the first turn at or after `when`; never within this call."""
        timer = ReactorTimer(self, when, callback)
        self._order += 1
        heapq.heappush(self._timers, (when, self._order, timer))
        return timer

    def timer_cancelled(self) -> None:
        """Connect deadlines are nearly always cancelled, thousands a second: keep the heap honest."""
        self._cancelled += 1
        if len(self._timers) >= SWEEP_AT and self._cancelled * 2 > len(self._timers):
            self._timers = [entry for entry in self._timers if entry[2].callback is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    @property
    def deadline(self) -> float:
        """When the next timer is due; infinite if there is none."""
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
            self._cancelled = max(0, self._cancelled - 1)
        return timers[0][0] if timers else math.inf

    def call_idle(self, callback: Callable[[], None]) -> None:
        """Call once when there is nothing else to do, or in IDLE_MOST_S: for what nobody waits for."""
        if not self._idle_calls:
            self._idle_since = self.now
        self._idle_calls.append(callback)

    def _make_idle_calls(self) -> None:
        calls, self._idle_calls = self._idle_calls, []
        for callback in calls:
            callback()

    def turn(self, until: float = math.inf, *, spin: bool = False) -> int:
        """Wait for events, the next timer or `until`, whatever is first; the number of events handled.

        `spin`: what comes next may come soon, so wait actively for a moment before sleeping; see Spin.
        """
        wait_s = min(until, self.deadline) - self._clock() if until > self.now else 0.0
        events = self._wait(wait_s, self._spin if spin else None)
        now = self.now = self._clock()
        if self._idle_calls and now - self._idle_since > IDLE_MOST_S:
            self._make_idle_calls()
        ready = self._ready
        fresh = self._fresh
        fresh.clear()
        last_events = 0
        for fileno, what in events:
            if fileno == self._last_fileno:
                last_events = what
                continue
            call = ready.get(fileno)
            if call is not None and fileno not in fresh:
                call(what)
        if self._timers:
            self._keep_appointments(now)
        if last_events and self._last_fileno >= 0 and self._last_fileno not in fresh:
            ready[self._last_fileno](last_events)
        return len(events)

    def _wait(self, wait_s: float, spin: Spin | None) -> list[tuple[int, int]]:
        poll, clock = self._epoll.poll, self._clock
        if wait_s <= 0.0:
            return poll(0, MAX_EVENTS)
        wait_s = min(wait_s, LONGEST_WAIT_S)
        if spin is None:
            if self._idle_calls:
                events = poll(0, MAX_EVENTS)
                if events:
                    return events
                self._make_idle_calls()
            return poll(wait_s, MAX_EVENTS)
        asleep = clock()
        end = asleep + min(spin.span_s, wait_s)
        while asleep < end:
            events = poll(0, MAX_EVENTS)
            if events:
                return events
            asleep = clock()
        if self._idle_calls:
            self._make_idle_calls()
        events = poll(wait_s, MAX_EVENTS)
        spin.slept(clock() - asleep)
        return events

    def _keep_appointments(self, now: float) -> None:
        """Call what is due. What a callback appoints for this very moment waits for the next turn."""
        due: list[ReactorTimer] = []
        while self.deadline <= now:
            due.append(heapq.heappop(self._timers)[2])
        for timer in due:
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()
            else:  # cancelled by one of those before it, when it had left the heap already
                self._cancelled = max(0, self._cancelled - 1)

    def close(self) -> None:
        self._ready.clear()
        self._timers.clear()
        self._epoll.close()
