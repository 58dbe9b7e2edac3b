# SPDX-License-Identifier: GPL-3.0-or-later
"""The two terminals: the caller's, out here, and the sandbox's own, in there.

The program never holds the caller's terminal, into which it could push input (TIOCSTI,
CVE-2017-5226). It gets a pty of the sandbox's own devpts, and the supervisor carries bytes and
window sizes between the two:

    caller's terminal ◄─ raw while in the foreground ─► supervisor ◄─► master │ slave ◄─► program

Whether anything is read from the caller's terminal follows job control: a program started in a
pipeline or in the background begins in the background of its own terminal, so the kernel stops it
(SIGTTIN) when it first wants to read, and only then is the caller's terminal taken. `torbox run
make | less` leaves every key to less.

Neither side is ever waited for: what one does not take waits where it came from, keys in the caller's
terminal and output in the program's, so that a terminal that stands still (^S, a connection that hangs)
stops the program's output and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import struct
import termios
from typing import Any

_TIOCSPTLCK = 0x40045431  # asm-generic/ioctls.h
_TIOCGPTN = 0x80045430
# A description of our own: its being non-blocking is nobody else's business.
_OWN = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK
_DISABLED = b"\0"  # in place of a key: there is none; _POSIX_VDISABLE of termios(3)
_CHUNK = 1 << 16  # bytes carried between the terminals at a time
_WINDOW = struct.Struct("HHHH")  # rows, columns, width and height in pixels; tty_ioctl(2)


class Terminal:
    """The caller's terminal: its settings as found, raw on demand, given back on every way out."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.attributes = termios.tcgetattr(descriptor)
        self.is_raw = False

    @classmethod
    def of_this_process(cls) -> Terminal | None:
        """The controlling terminal, else a standard stream that is a terminal, else None."""
        descriptor = None
        with contextlib.suppress(OSError):
            descriptor = os.open("/dev/tty", _OWN)
        if descriptor is None:
            streams = [stream for stream in (0, 1, 2) if os.isatty(stream)]
            if not streams:
                return None
            try:
                descriptor = os.open(f"/proc/self/fd/{streams[0]}", _OWN)
            except OSError:  # another user's, as after su(1): then a terminal that stands still is waited for
                descriptor = fcntl.fcntl(streams[0], fcntl.F_DUPFD_CLOEXEC, 3)
        try:
            return cls(descriptor)
        except termios.error:  # it hung up a moment ago
            os.close(descriptor)
            return None

    def in_foreground(self) -> bool:
        """Whether keys are meant for this process's group. A terminal without job control counts as ours."""
        try:
            return os.tcgetpgrp(self.descriptor) == os.getpgrp()
        except OSError:
            return True

    def make_raw(self) -> None:
        """Let every key through to the sandbox, whose own terminal gives ^C, ^Z and the rest a meaning."""
        if self.is_raw:
            return
        with contextlib.suppress(termios.error):  # it may hang up at any time
            self.attributes = termios.tcgetattr(self.descriptor)
        raw = list(self.attributes)
        raw[0] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        raw[1] &= ~termios.OPOST
        raw[2] = (raw[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        control = list(raw[6])
        control[termios.VMIN], control[termios.VTIME] = 1, 0
        raw[6] = control
        _set_attributes(self.descriptor, raw)
        self.is_raw = True

    def restore(self) -> None:
        """Give the terminal back as it was found."""
        if not self.is_raw:
            return
        self.is_raw = False
        _set_attributes(self.descriptor, self.attributes)

    def copy_size(self, to: int) -> None:
        """Give the terminal `to` this one's window size; its programs get SIGWINCH if it changed."""
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(self.descriptor, termios.TIOCGWINSZ, bytes(_WINDOW.size))
            fcntl.ioctl(to, termios.TIOCSWINSZ, size)


class PtyRelay:
    """Keys and output between the caller's terminal and the master of the sandbox's pty."""

    def __init__(self, terminal: Terminal, master: int) -> None:
        self.terminal = terminal
        self.master = master
        os.set_blocking(master, False)
        self.has_terminal = False  # the caller's is raw, and read by us
        self.suspend_typed = False  # the key that stops a job was, since somebody last asked
        self.interrupt_typed = False  # the key that interrupts one was
        self.has_ended = False  # every copy of the slave is closed, and all output is read
        self._keys = b""  # not taken by the sandbox's terminal yet
        self._output = b""  # not taken by the caller's yet

    @property
    def is_waited_for(self) -> bool:
        """There is output that the caller's terminal does not take."""
        return bool(self._output)

    def take_terminal(self) -> None:
        if not self.has_terminal:
            self.terminal.make_raw()
            self.terminal.copy_size(self.master)
            self.has_terminal = True

    def give_terminal_back(self) -> None:
        if self.has_terminal:
            self.has_terminal = False
            self.terminal.restore()

    def events(self) -> dict[int, int]:
        """What poll(2) is to wait for, by descriptor; 0 for one that nothing is wanted of."""
        keys = select.POLLIN if self.has_terminal and not self._keys else 0
        output = select.POLLIN if not self._output and not self.has_ended else 0
        return {
            self.terminal.descriptor: keys | (select.POLLOUT if self._output else 0),
            self.master: output | (select.POLLOUT if self._keys and not self.has_ended else 0),
        }

    def carry(self) -> bool:
        """Move what can be moved without waiting, a chunk each way at most; whether anything was."""
        return self._carry_keys() | self._carry_output()

    def _carry_keys(self) -> bool:
        if not self._keys:
            if not self.has_terminal:
                return False
            try:
                self._keys = os.read(self.terminal.descriptor, _CHUNK)
            except BlockingIOError:
                return False
            except OSError:
                pass
            if not self._keys:  # hung up; SIGHUP tells the program
                self.has_terminal = False
                return False
            self.suspend_typed = self.suspend_typed or self._typed(termios.VSUSP)
            self.interrupt_typed = self.interrupt_typed or self._typed(termios.VINTR)
            # What is typed after a change of the window's size is not to overtake it.
            self.terminal.copy_size(self.master)
        try:
            self._keys = self._keys[os.write(self.master, self._keys) :]
        except BlockingIOError:
            return False
        except OSError:
            self._keys = b""
        return True

    def _typed(self, index: int) -> bool:
        """Whether a key that signals, as VINTR, is among the keys. In a raw terminal there are none."""
        try:
            attributes = termios.tcgetattr(self.master)  # those of the sandbox's own terminal
        except termios.error:
            return False
        key: bytes = attributes[6][index]
        return bool(attributes[3] & termios.ISIG) and key != _DISABLED and key in self._keys

    def _carry_output(self) -> bool:
        if not self._output:
            if self.has_ended:
                return False
            try:
                self._output = os.read(self.master, _CHUNK)
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
            if not self._output:
                self.has_ended = True
                return False
        try:
            self._output = self._output[os.write(self.terminal.descriptor, self._output) :]
        except BlockingIOError:
            return False
        except OSError:  # hung up: the output has nowhere to go, but the program may go on
            self._output = b""
        return True


def _set_attributes(descriptor: int, attributes: list[Any]) -> None:
    """At once, and again if a signal came in between; a terminal that is gone has no attributes."""
    while True:
        try:
            termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
        except termios.error as error:
            if error.args[0] == errno.EINTR:
                continue
        return


def open_pty(devpts: str, like: Terminal) -> tuple[int, int]:
    """A new pty of the devpts at this path, set and sized as `like`: master and slave descriptors."""
    master = os.open(f"{devpts}/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    number = struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, struct.pack("i", 0)))[0]
    slave = os.open(f"{devpts}/{number}", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    termios.tcsetattr(slave, termios.TCSANOW, like.attributes)
    like.copy_size(slave)
    return master, slave


def make_controlling(slave: int) -> None:
    """Make this the controlling terminal of the calling process, the leader of a session without one."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
