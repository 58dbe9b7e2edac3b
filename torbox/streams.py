# SPDX-License-Identifier: GPL-3.0-or-later
"""Standard streams: the program gets ends of its own, never the caller's descriptors.

A descriptor carries more than its bytes. Through /proc/self/fd a program of the caller's uid can
reopen a pipe or a file in the other direction: append to the script that the caller's shell is
reading, truncate a log that it may only append to, read what others wrote. A directory leads to
the host's files, a network socket to its network. So:

    a terminal                    a pty of the sandbox's own (tty.py)
    a pipe, a file, a connected   a pipe of the sandbox's own, relayed here; a socket would answer
    Unix stream socket            questions about the network it was made in (netdevice(7))
    /dev/null and its like        as it is: there is nothing behind it
    nothing: it is closed         nothing
    anything else                 the program does not start

What a relay costs the program: its input and output are pipes, not files, so they cannot be sought.
Input is read ahead by at most one page from a pipe; a file is given back its place at the end.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import os
import select
import socket
import stat
import struct
import termios
from typing import NamedTuple

from torbox.errors import SetupError

_NAMES = ("standard input", "standard output", "standard error")
_STEP = "check the standard streams"
# null, zero, full, random and urandom: char devices 1:3 to 1:9 (Documentation/admin-guide/devices.txt)
_HARMLESS_DEVICES = frozenset(os.makedev(1, minor) for minor in (3, 5, 7, 8, 9))
_CHUNK = 1 << 16  # bytes moved at a time: what a pipe holds
_READ_AHEAD = 4096  # bytes taken from the caller's pipe before the program wants them: the least there is
_F_SETPIPE_SZ = 1031


class Waits(enum.Enum):
    """What a relay needs before it can move on."""

    SOURCE = enum.auto()
    SINK = enum.auto()
    NOTHING = enum.auto()  # it has ended


class Relay:
    """Bytes from `source` to `sink`, never blocking on either, until the source ends or the sink breaks."""

    def __init__(self, name: str, source: int, sink: int, owned: int) -> None:
        self.name = name
        self.source = source
        self.sink = sink
        self._owned = owned  # our end of the pipe: closing it tells the program
        os.set_blocking(owned, False)  # the program's end is another description, and blocks
        self._splices = not stat.S_ISSOCK(os.fstat(sink).st_mode)
        self.moved = 0  # bytes
        self.last = False  # nobody is left to write into the source: what is there is all
        self.waits = Waits.SOURCE
        self.error = 0  # errno of a sink that broke, but for EPIPE

    def move(self) -> None:
        """Move one chunk if both sides are ready, and say in `waits` which one is not."""
        if not _is_ready(self.source, select.POLLIN):
            self.waits = Waits.SOURCE
            if self.last:
                self.close()
        elif not _is_ready(self.sink, select.POLLOUT):
            self.waits = Waits.SINK
        else:
            try:
                moved = self._splice()
            except BlockingIOError:
                return
            except OSError as error:
                # What was read is lost; what was spliced is still there, or there was nothing more.
                is_lost = not self._splices or _waiting_bytes(self.source)
                if error.errno != errno.EPIPE and is_lost:
                    self.error = error.errno or errno.EIO
                moved = 0
            self.moved += moved
            if moved == 0:
                self.close()

    def _splice(self) -> int:
        if self._splices:
            try:
                return os.splice(self.source, self.sink, _CHUNK, flags=os.SPLICE_F_NONBLOCK)
            except OSError as error:
                if error.errno != errno.EINVAL:  # a file that is appended to takes none, splice(2)
                    raise
                self._splices = False
        # No more than a sink that is ready surely takes, or this would wait for its reader.
        data = os.read(self.source, select.PIPE_BUF)
        rest = data
        while rest:
            rest = rest[os.write(self.sink, rest) :]
        return len(data)

    def close(self) -> None:
        """Let both sides know: the program by its end, the caller's neighbour by standard input or output."""
        if self.waits is Waits.NOTHING:
            return
        self.waits = Waits.NOTHING
        os.close(self._owned)
        for stream in {self.source, self.sink} & {0, 1}:
            if stat.S_ISFIFO(os.fstat(stream).st_mode):
                null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
                os.dup2(null, stream)
                os.close(null)


class Streams(NamedTuple):
    """What becomes 0, 1 and 2 inside, and what carries it.

    `inside` has a descriptor for each, or None where the slave of the sandbox's pty goes. `input` and
    `outputs` are the relays to be moved until they end; `input_end` is where the program reads.
    """

    inside: tuple[int | None, int | None, int | None]
    input: Relay | None
    input_end: int
    input_start: int | None  # where a file is read from on; None: it cannot be sought
    outputs: tuple[Relay, ...]
    output_ends: tuple[int, ...]

    @property
    def terminals(self) -> tuple[int, ...]:
        return tuple(number for number, descriptor in enumerate(self.inside) if descriptor is None)

    @property
    def closed(self) -> tuple[int, ...]:
        """Those that the caller had closed; what occupies them until the program starts is closed, too."""
        return tuple(
            number
            for number, descriptor in enumerate(self.inside)
            if descriptor == number and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_PATH
        )

    def leave_to_the_program(self) -> None:
        """Close our copies of its ends, or the relays would not end when it closes them."""
        for descriptor in self.output_ends:
            os.close(descriptor)
        if self.input is not None and self.input_start is None:
            os.close(self.input_end)

    def give_back_input(self) -> None:
        """Set a file that was read ahead back to where the program stopped reading.

        Never before the place where it began: the program can write into its own pipe, and a caller's
        shell would run its script again.
        """
        if self.input is None:
            return
        self.input.close()
        if self.input_start is None:
            return  # what was read ahead of a pipe is lost, as the module says
        unread = _waiting_bytes(self.input_end)
        os.lseek(0, self.input_start + max(0, self.input.moved - unread), os.SEEK_SET)
        os.close(self.input_end)


def _waiting_bytes(descriptor: int) -> int:
    """What can be read of a pipe or a file; FIONREAD of ioctl_tty(2)."""
    count: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))[0]
    return count


def occupy_closed() -> None:
    """Occupy each standard stream that is closed, or its number would go to something else.

    By what can be neither read nor written, O_PATH of open(2): its user sees EBADF, as of a closed one.
    """
    while (descriptor := os.open(os.devnull, os.O_PATH | os.O_CLOEXEC)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def open_streams() -> Streams:
    """Look at the caller's streams and make the program's. Raises SetupError for one that is a way out."""
    inside: list[int | None] = []
    relay_in: Relay | None = None
    input_end = -1
    outputs: list[Relay] = []
    shared: dict[tuple[int, int], int] = {}
    for number, name in enumerate(_NAMES):
        status = os.fstat(number)
        if os.isatty(number):
            inside.append(None)
        elif not _needs_relay(number, status, name):
            inside.append(number)
        elif number == 0:
            input_end, writable = os.pipe2(os.O_CLOEXEC)
            if stat.S_ISFIFO(status.st_mode):
                fcntl.fcntl(writable, _F_SETPIPE_SZ, _READ_AHEAD)
            relay_in = Relay(name, 0, writable, writable)
            inside.append(input_end)
        else:
            # `>file 2>&1` is one stream, in which the order of lines counts.
            same = (status.st_dev, status.st_ino)
            if same not in shared:
                readable, shared[same] = os.pipe2(os.O_CLOEXEC)
                outputs.append(Relay(name, readable, number, readable))
            inside.append(shared[same])
    first, second, third = inside
    start = _place() if relay_in is not None else None
    return Streams((first, second, third), relay_in, input_end, start, tuple(outputs), tuple(shared.values()))


def _place() -> int | None:
    """Where the caller's standard input stands, if it is a file that can be sought."""
    try:
        return os.lseek(0, 0, os.SEEK_CUR)
    except OSError:
        return None


def _needs_relay(number: int, status: os.stat_result, name: str) -> bool:
    mode = status.st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISREG(mode):
        return True
    if stat.S_ISCHR(mode) and status.st_rdev in _HARMLESS_DEVICES:
        return False
    if stat.S_ISSOCK(mode):
        if _is_connected_stream(number):
            return True
        what = "a network or unconnected socket"
    elif stat.S_ISDIR(mode):
        what = "a directory"
    else:
        what = "a device"
    raise SetupError(
        _STEP,
        0,
        f"{name} is {what}, through which the program could leave the sandbox",
        advice="Give it a terminal, a pipe or a file instead.",
    )


def _is_connected_stream(number: int) -> bool:
    """Between two processes, and can be turned to nobody else."""
    with socket.socket(fileno=os.dup(number)) as end:
        if end.family != socket.AF_UNIX or end.type != socket.SOCK_STREAM:
            return False
        try:
            end.getpeername()
        except OSError:
            return False
        return True


def _is_ready(descriptor: int, event: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(0))
