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
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import termios
from typing import Any

_TIOCSPTLCK = 0x40045431  # asm-generic/ioctls.h
_TIOCGPTN = 0x80045430
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
            descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        if descriptor is None:
            streams = [stream for stream in (0, 1, 2) if os.isatty(stream)]
            if not streams:
                return None
            descriptor = fcntl.fcntl(streams[0], fcntl.F_DUPFD_CLOEXEC, 3)
        try:
            return cls(descriptor)
        except termios.error:  # it hung up a moment ago
            os.close(descriptor)
            return None

    @property
    def suspend_key(self) -> bytes:
        """The key that stops a job; ^Z for most."""
        key: bytes = self.attributes[6][termios.VSUSP]
        return key

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
