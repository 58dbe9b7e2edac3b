# SPDX-License-Identifier: GPL-3.0-or-later
"""The session bus, as xdg-dbus-proxy(1) lets a program see it.

The proxy is a process of the user's that listens in the sandbox's own directory, hides every name of the bus
but those of the profile, and passes nothing to others. It tells by a pipe when it is ready, and ends when
torbox's end of that pipe is closed, however that came about. It parses what the program inside sends, so it
is started confined (confinement.py): its root has /usr, the doorman's socket, and a directory to listen in,
which is gone, but for its socket, as soon as it does.

Between proxy and bus stands `Introduction`, for what the proxy does not do. A program says to the bus by
number which user it is (D-Bus Specification, EXTERNAL), and that inside is everybody's, not this user's:
the bus would not believe it, so the right number is put in. And whoever is on the bus answers, by the library
that he uses, what this machine's id is (org.freedesktop.DBus.Peer), as the bus tells by which process a name
is owned and what its own id is, the same in all sandboxes of a session: such a question goes on as one for a
method that nobody has, of the same length, and is answered so. The bus says its id in its introduction, too:
there it is zeros.
"""

from __future__ import annotations

import errno
import os
import re
import select
import shutil
import signal
import socket
import struct
from collections.abc import Callable
from typing import NoReturn

from torbox import privileges, report
from torbox.allowance import Allowance
from torbox.confinement import Confinement
from torbox.errors import SetupError
from torbox.report import Report
from torbox.stack_filter import Reach

PROXY = "xdg-dbus-proxy"
_READY_WITHIN_S = 10
_STEP = "share the session bus"
_SOCKET = "bus"  # in the proxy's own directory
_LINE_MAX = 16 << 10  # bytes before the end of a line; libdbus takes 16 KiB for the whole of it
_HEADER = struct.Struct("cBBBIII")  # a message's, up to its fields: of the body and the fields the lengths
_FIELDS_MAX = 64 << 10  # bytes of a message's fields; some hundred are usual
_TELLING = (
    b"GetMachineId",  # of org.freedesktop.DBus.Peer; the rest of the bus itself
    b"GetId",
    b"GetConnectionCredentials",
    b"GetConnectionUnixProcessID",
    b"GetConnectionSELinuxSecurityContext",
)
_SAYS_WHO = re.compile(rb"((?:AUTH EXTERNAL|DATA) )([0-9a-fA-F]+)(\r\n)")  # at once, or when asked
_ADDRESSED = re.compile(rb"OK [0-9a-fA-F]{32}\r\n")  # the same number as GetId's
_NO_ADDRESS = b"OK " + b"0" * 32 + b"\r\n"
_MECHANISM = re.compile(rb"\0?AUTH *(\S*).*\r\n", re.DOTALL)


def address(bus: str) -> str:
    """A D-Bus address of a path, or of an abstract name with @ before it."""
    kind, value = ("abstract", bus[1:]) if bus.startswith("@") else ("path", bus)
    escaped = "".join(
        each if each.isalnum() or each in "-_/.\\*" else "".join(f"%{byte:02x}" for byte in each.encode())
        for each in value
    )
    return f"unix:{kind}={escaped}"


class Introduction:
    """What a client says, with its number put right until it is let in, and no question that would tell."""

    def __init__(self, uid: int) -> None:
        self._who = str(uid).encode().hex().encode()
        self._held = bytearray()
        self._is_external = False  # the mechanism that was chosen last
        self._is_in = False
        self._passing = 0  # bytes of a message's body that are still to come
        self._told = bytearray()  # of the bus's line
        self._is_met = False  # what comes from the bus are messages

    def feed(self, content: bytes) -> tuple[bytes, bytes]:
        """What goes on to the bus. Raises ValueError for a line without an end and what is no message."""
        held = self._held
        held += content
        on = bytearray()
        while not self._is_in and (end := held.find(b"\r\n")) >= 0:
            line = bytes(held[: end + 2])
            del held[: end + 2]
            self._is_in = line == b"BEGIN\r\n"
            if chosen := _MECHANISM.fullmatch(line):
                self._is_external = chosen[1] == b"EXTERNAL"
            if self._is_external:
                line = _SAYS_WHO.sub(lambda said: said[1] + self._who + said[3], line)
            on += line
        if self._is_in:
            on += self._messages()
        elif len(held) > _LINE_MAX:
            raise ValueError("a line without an end")
        return bytes(on), b""

    def _messages(self) -> bytes:
        """As much of what is held as may pass; D-Bus Specification, "Message Format"."""
        held, on = self._held, bytearray()
        while held:
            if self._passing:
                taken = min(self._passing, len(held))
                on += held[:taken]
                self._passing -= taken
                del held[:taken]
                continue
            order = {ord("l"): "<", ord("B"): ">"}.get(held[0])
            if order is None:
                raise ValueError("this is no message")
            if len(held) < _HEADER.size:
                break
            *_, body, _, fields = struct.unpack_from(f"{order}{_HEADER.format}", held)
            if fields > _FIELDS_MAX:
                raise ValueError("more fields than a message has")
            end = _HEADER.size + fields + -fields % 8
            if len(held) < end:
                break
            on += _harmless(bytes(held[:end]), order)
            del held[:end]
            self._passing = body
        return bytes(on)

    def reply(self, content: bytes) -> bytes:
        """What comes back, without the bus's own number. ValueError for a line without an end."""
        if self._is_met:
            return content
        told, back = self._told, bytearray()
        told += content
        while told and not self._is_met:
            if told[0] in b"lB":  # a message's byte order, which no line of the bus's begins with
                self._is_met = True
                back += told
                told.clear()
            elif (end := told.find(b"\r\n")) >= 0:
                line = bytes(told[: end + 2])
                del told[: end + 2]
                back += _NO_ADDRESS if _ADDRESSED.fullmatch(line) else line
            elif len(told) > _LINE_MAX:
                raise ValueError("a line without an end")
            else:
                break
        return bytes(back)


def _harmless(header: bytes, order: str) -> bytes:
    """The same header, in which no telling method is asked for. No value of a field can look like a field."""
    for name in _TELLING:
        field = b"\3\1s\0" + struct.pack(f"{order}I", len(name))  # MEMBER, a variant of a string
        header = header.replace(field + name + b"\0", field + b"Not" + name[3:] + b"\0")
    return header


class Proxy:
    """A running proxy; `readable` is, once it has ended."""

    def __init__(
        self,
        bus: str,
        path: str,
        options: tuple[str, ...],
        allowed: frozenset[str] = frozenset(),
        tell: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        """Start it on the bus with a socket at `bus`, listening at `path`; return when it does.

        SetupError, also if it cannot be confined; but what is `allowed` to be missing (allowance.py) is told.
        """
        program = shutil.which(PROXY)
        if program is None:
            raise SetupError(_STEP, errno.ENOENT, PROXY, advice=f"Install {PROXY}.")
        program = os.path.realpath(program)
        if not program.startswith("/usr/"):
            advice = f"Install {PROXY} below /usr, which is all that it finds where it is confined."
            raise SetupError(_STEP, 0, f"{program} cannot be confined", advice=advice)
        directory = f"{path}-proxy"  # which is its own as long as it makes its socket
        try:
            os.mkdir(directory, 0o700)
        except OSError as error:
            raise SetupError(_STEP, error.errno or 0, directory) from error
        self.readable, its_end = os.pipe2(os.O_CLOEXEC)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            command = (program, *options)
            _become(command, bus, directory, its_end, Report(writer), allowed, parent)
        os.close(its_end)
        os.close(writer)
        try:
            with open(reader, "rb", buffering=0):
                reason = report.hear(reader, tell)
                if reason is not None:
                    raise SetupError(_STEP, 0, reason or f"{PROXY} did not start")
                ready, _, _ = select.select([self.readable], [], [], _READY_WITHIN_S)
                if not ready or not os.read(self.readable, 1):
                    reason = report.last_words(reader) or f"{PROXY} did not start"
                    raise SetupError(
                        _STEP, 0, reason, advice=f"Try it: {PROXY} {address(bus)} /tmp/bus --filter"
                    )
            os.rename(f"{directory}/{_SOCKET}", path)
            os.rmdir(directory)
        except OSError as error:
            self.end()
            raise SetupError(_STEP, error.errno or 0, path) from error
        except SetupError:
            self.end()
            raise

    def end(self) -> None:
        os.close(self.readable)
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _become(
    command: tuple[str, ...],
    bus: str,
    directory: str,
    its_end: int,
    told: Report,
    allowed: frozenset[str],
    parent: int,
) -> NoReturn:
    """The child's column: confined, and then the proxy."""
    try:
        privileges.detach(parent, (its_end, told.fileno()))
        reach = Reach((socket.AF_UNIX,), paths=(bus,), program=True, directory=directory)
        confinement = Confinement(reach, Allowance(allowed, told.missing), "the session bus's proxy")
        confinement.prepare()
        inside = confinement.path_of(bus)
        if inside == bus:  # in no root of its own: the name will be gone, but not what it leads to
            place = os.open(bus, os.O_PATH)
            os.set_inheritable(place, True)
            inside = f"/proc/self/fd/{place}"
        os.set_inheritable(its_end, True)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        privileges.die_with_parent(parent)  # forgotten by the kernel if credentials change (prctl(2))
        confinement.seal()
        told.ready()
        program, *options = command
        listening = f"{confinement.path_of(directory)}/{_SOCKET}"
        # In no environment: it needs none, and the caller's may hold secrets.
        os.execve(program, [program, f"--fd={its_end}", address(inside), listening, "--filter", *options], {})
    except BaseException as error:  # the last resort: torbox says it
        told.failed(report.reason_of(error))
    finally:
        os._exit(1)
