# SPDX-License-Identifier: GPL-3.0-or-later
"""From PROCEED to the exit code: workers, terminal, signals.

One loop over the socket to pid 1, the signals, the workers' pidfds, the relays of the standard
streams and, where there is one, the pair of terminals. What the program would see of its caller
without torbox it sees through here:

    ^C, ^Z            keys on the caller's raw terminal, given a meaning by the program's own; or,
                      while that is not taken, signals of this process, passed on
    it stops          this process's group stops the same way, so the caller's shell takes over
    it is resumed     the terminal is taken again if it was ours, and the program continued
    it wants to read  the kernel stops it with SIGTTIN: the terminal is taken, or we stop likewise
    it ends           what it has written is passed on to the last byte, and its exit code is ours

If a worker dies, the sandbox is killed: without a stack nothing can leave, but nobody should have
to find out why nothing works. If this process dies, everything does.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import time
from collections.abc import Callable, Sequence

from torbox import handshake
from torbox.errors import SetupError
from torbox.handshake import Kind
from torbox.report import CAPTURE_LOST, ROOM
from torbox.sandbox import Sandbox
from torbox.streams import Relay, Streams, Waits
from torbox.tty import PtyRelay, Terminal

_PASSED_ON = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTSTP,
)
_ENDING = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
_JOB_CONTROL = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_LAST_WAIT_S = 2.0  # for a reader who does not read, once a signal has asked for the end
_CHUNKS_BEFORE_A_STOP = 16  # others in the sandbox may go on writing, but not hold up the stop


class Supervisor:
    """Watches over one running sandbox. `signals` comes from `catch_signals`, `workers` are their pids.

    `last_words` tells why one has ended, if it could say so.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        streams: Streams,
        signals: int,
        terminal: Terminal | None,
        workers: Sequence[int],
        last_words: Callable[[int], str],
    ) -> None:
        self._sandbox = sandbox
        self._streams = streams
        self._last_words = last_words
        self._control = sandbox.control
        self._pty = None
        if terminal is not None and sandbox.master is not None:
            self._pty = PtyRelay(terminal, sandbox.master)
        self._susp_sent = False  # somebody wants the job to stop, since the last time it did
        self._exit_code: int | None = None
        self._was_interrupted = False  # the program, which ended by it
        self._is_gone = False
        self._ends_by_signal = (
            False  # somebody wants it to end, so a reader who does not read is not waited for
        )
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._watch(signals, lambda: self._signals_arrived(signals))
        for worker in workers:
            self._watch_worker(worker, os.pidfd_open(worker))

    def watch(self, descriptor: int, became_readable: Callable[[], None]) -> None:
        """Call back once when this becomes readable while the program runs."""

        def once() -> None:
            self._unwatch(descriptor)
            became_readable()

        self._watch(descriptor, once)

    def run(self) -> int:
        """Supervise until the program has ended; its exit code.

        Raises SetupError if the sandbox itself broke, EndWantedError if the program ended by SIGINT.
        """
        gc.freeze()  # what the start has made stays; from here on there may be garbage
        gc.enable()
        for number in _ENDING:
            _handle(number, _note)
        self._watch(self._control.fileno(), self._control_readable)
        try:
            if self._pty is not None:
                if self._sandbox.in_foreground:
                    self._pty.take_terminal()
                self._carry(self._pty)
            for relay in filter(None, (self._streams.input, *self._streams.outputs)):
                self._move(relay)
            while self._exit_code is None:
                self._turn()
            self._drain()
        finally:
            if self._pty is not None:
                self._pty.give_terminal_back()
            self._end_sandbox()
            self._streams.give_back_input()
        if self._was_interrupted:
            self._interrupt_others()
            raise EndWantedError(signal.SIGINT)
        return self._exit_code

    def _interrupt_others(self) -> None:
        """The key was for the whole job: a script that ran torbox, or what is in a pipeline with it.

        The kernel would have told them, had the terminal not been raw.
        """
        if self._pty is not None and self._pty.interrupt_typed and self._pty.terminal.in_foreground():
            handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.killpg(os.getpgrp(), signal.SIGINT)
            signal.signal(signal.SIGINT, handler)

    def _end_sandbox(self) -> None:
        """Return when its first process is gone, and with it every other."""
        if self._is_gone:
            return
        self._is_gone = True
        if self._exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._sandbox.pid, signal.SIGKILL)
        os.waitpid(self._sandbox.pid, 0)

    def _turn(self, timeout_s: float | None = None) -> None:
        for descriptor, _events in self._poll.poll(None if timeout_s is None else timeout_s * 1000):
            # One handler may have taken away what another was to handle.
            handler = self._handlers.get(descriptor)
            if handler is not None:
                handler()

    def _watch(self, descriptor: int, handler: Callable[[], None], event: int = select.POLLIN) -> None:
        self._handlers[descriptor] = handler
        self._poll.register(descriptor, event)

    def _unwatch(self, descriptor: int) -> None:
        if self._handlers.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    # Pid 1 and the program.

    def _control_readable(self) -> None:
        message = handshake.receive(self._control)
        if message is None:
            raise SetupError("run the program", 0, "the sandbox's first process was killed")
        number = int(message.fields[0])
        if message.kind is Kind.EXITED:
            self._exit_code = number if number >= 0 else 128 - number
            self._was_interrupted = number == -signal.SIGINT
            self._unwatch(self._control.fileno())
        elif message.kind is Kind.STOPPED:
            self._program_stopped(signal.Signals(number))

    def _tell(self, kind: Kind, number: int) -> None:
        with contextlib.suppress(OSError):  # it has just ended: its last message is on its way
            handshake.send(self._control, kind, number)

    def _program_stopped(self, number: signal.Signals) -> None:
        pty = self._pty
        wants_terminal = number in (signal.SIGTTIN, signal.SIGTTOU)
        if wants_terminal and pty is not None and pty.terminal.in_foreground():
            pty.take_terminal()
            self._carry(pty)
            self._tell(Kind.CONTINUE, 1)
            return
        whole_job = wants_terminal or self._susp_sent
        self._susp_sent = had_terminal = False
        if pty is not None:
            whole_job, pty.suspend_typed = whole_job or pty.suspend_typed, False
            chunks = _CHUNKS_BEFORE_A_STOP  # what it said before belongs on the screen before the stop
            while chunks and pty.carry():
                chunks -= 1
            had_terminal = pty.has_terminal
            pty.give_terminal_back()
        _stop_like(number, whole_job=whole_job)
        if pty is not None:
            if (had_terminal or wants_terminal) and pty.terminal.in_foreground():
                pty.take_terminal()
            self._carry(pty)
        self._continue()

    def _continue(self) -> None:
        self._tell(Kind.CONTINUE, int(self._pty is not None and self._pty.has_terminal))

    def _watch_worker(self, pid: int, pidfd: int) -> None:
        self._watch(pidfd, lambda: self._worker_died(pid, pidfd))

    def _worker_died(self, pid: int, pidfd: int) -> None:
        if self._exit_code is not None:
            return
        what, advice = "ended unexpectedly", ""
        with contextlib.suppress(ChildProcessError):  # whoever started torbox deaf to SIGCHLD has it reaped
            ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
            if ended is not None and ended.si_status == signal.SIGSYS and ended.si_code != os.CLD_EXITED:
                what = "was killed by its own filter of system calls"
                advice = "Either somebody has taken it over, or this is a bug in torbox: please report it."
            elif ended is not None and ended.si_status == CAPTURE_LOST and ended.si_code == os.CLD_EXITED:
                what, advice = "could not write on to the file of --pcap", ROOM
        if reason := self._last_words(pid):
            what = f"ended ({reason})"
        raise SetupError(
            "run the network", 0, f"the network stack {what}; the program was ended with it", advice=advice
        )

    # Signals.

    def _signals_arrived(self, descriptor: int) -> None:
        for number in os.read(descriptor, 512):
            if number == signal.SIGWINCH:
                if self._pty is not None:
                    self._pty.terminal.copy_size(self._pty.master)
            elif number == signal.SIGCONT:
                self._continue()
            else:
                self._susp_sent = self._susp_sent or number == signal.SIGTSTP
                self._tell(Kind.SIGNAL, number)
                if number in _ENDING:
                    self._ends_by_signal = True

    # Streams and terminals.

    def _move(self, relay: Relay) -> None:
        """Move what can be moved, and wait for what is missing."""
        self._unwatch(relay.source)
        self._unwatch(relay.sink)
        relay.move()
        if relay.waits is Waits.SOURCE:
            self._watch(relay.source, lambda: self._move(relay))
        elif relay.waits is Waits.SINK:
            self._watch(relay.sink, lambda: self._move(relay), select.POLLOUT)

    def _carry(self, pty: PtyRelay) -> None:
        """Carry what can be, and wait for whatever lets more of it."""
        pty.carry()
        for descriptor, events in pty.events().items():
            if not events:  # not even watched: one that hung up would never stop saying so
                self._unwatch(descriptor)
            else:
                self._watch(descriptor, lambda: self._carry(pty), events)

    def _drain(self) -> None:
        """Pass on what the ended program left behind. Raises SetupError if output was lost on the way.

        Once the sandbox is gone nothing is added, even if somebody outside holds an end of a pipe or of
        the terminal. Whoever reads may take their time, unless a signal has asked for the end.
        """
        self._end_sandbox()
        for relay in self._streams.outputs:
            relay.last = True
            if relay.waits is Waits.SOURCE:
                self._move(relay)
        end = None
        while any(relay.waits is not Waits.NOTHING for relay in self._streams.outputs):
            if self._ends_by_signal:
                end = time.monotonic() + _LAST_WAIT_S if end is None else end
                if time.monotonic() > end:
                    break
            self._turn(_LAST_WAIT_S)
        for relay in self._streams.outputs:
            relay.close()
            if relay.error:
                raise SetupError("pass on the output", relay.error, relay.name)
        if self._pty is not None:
            self._drain_terminal(self._pty)

    def _drain_terminal(self, pty: PtyRelay) -> None:
        """The kernel hands a terminal's last bytes over in its own time, then says that it is hung up.

        A caller's terminal that stands still may take its time, unless a signal has asked for the end.
        """
        end = time.monotonic() + _LAST_WAIT_S
        self._carry(pty)
        while not pty.has_ended or pty.is_waited_for:
            if pty.is_waited_for and not self._ends_by_signal:
                end = time.monotonic() + _LAST_WAIT_S
            left = end - time.monotonic()
            if left < 0:
                break
            self._turn(left)
            self._carry(pty)


class EndWantedError(KeyboardInterrupt):
    """A signal asked for the end while there was no program yet to be told, or ended it as one should."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def catch_signals() -> int:
    """A descriptor from which the numbers of caught signals are read. Ignored ones stay ignored.

    To be called before the sandbox is started. While it is being built, a signal that asks for the end
    raises EndWantedError, and any other reaches the program as soon as there is one. From `Supervisor.run`
    on all of them do.
    """
    readable, writable = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    for number in (*_PASSED_ON, signal.SIGWINCH, signal.SIGCONT):
        _handle(number, _end if number in _ENDING else _note)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    return readable


def _handle(number: int, handler: Callable[[int, object], None]) -> None:
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, handler)


def _note(_number: int, _frame: object) -> None:
    """The descriptor tells it."""


def _end(number: int, _frame: object) -> None:
    raise EndWantedError(number)


def _stop_like(number: signal.Signals, *, whole_job: bool) -> None:
    """Stop as the program was stopped, and return when resumed.

    A stop that came from the terminal means the job, so this whole process group; in an orphaned
    group, where nobody could resume it, the kernel lets such a stop pass, as it would the program's.
    One that the program gave itself stops torbox alone: it has no business with its caller's others.
    """
    stop = number if whole_job and number in _JOB_CONTROL else signal.SIGSTOP
    # SIGCONT is not to be passed on besides: the program would be continued, and told so, twice.
    handlers = {
        each: signal.signal(each, signal.SIG_DFL) for each in {stop, signal.SIGCONT} - {signal.SIGSTOP}
    }
    try:
        if stop is signal.SIGSTOP:
            os.kill(os.getpid(), stop)
        else:
            os.killpg(os.getpgrp(), stop)
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
