# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the user's session gets into a sandbox, and how: nothing as it is but what cannot be had otherwise.

    find        looks at the session and tells what will be at which place inside: a value
    opened      makes what only lives as long as the sandbox: cookie, filter, proxy; ends it afterwards

    session                        outside of the sandbox              inside
    X server ◄──────────────────── doorman: untrusted cookie ◄──────── /tmp/.X11-unix/X0
    compositor, PipeWire ───────── their sockets ────────────────────► /run/user/1000/…
    sound server ◄──────────────── doorman: pulse's filter ◄────────── /run/user/1000/pulse/native
    session bus ◄── doorman ◄───── xdg-dbus-proxy ◄─────────────────── /run/user/1000/bus
    /dev/dri, /sys ─────────────── gpu: render nodes ────────────────► the same

Sockets are bound one by one; of the host's /run and /tmp nothing else is there. What belongs to one sandbox
is in a directory of its own, mode 0700, whose names are removed as soon as the sandbox has what it needs of
them: mounts keep what is mounted.

What is not there is left out, with a note. What is there and cannot be shared as it is to be (an X server
without untrusted cookies, a session bus without a proxy) stops the start: the less protected way is never
taken instead.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torbox.errors import SetupError
from torbox.mounts import Bind, Directory, MountOp, ReadOnly
from torbox.profiles.desktop import Desktop, exposures
from torbox.userns import UID_INSIDE

RUNTIME_INSIDE = f"/run/user/{UID_INSIDE}"
_XAUTHORITY = f"{RUNTIME_INSIDE}/Xauthority"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What a sandbox gets of the session.

    `devices` go before /dev is made read-only, `mounts` to the end; their sources in `directory` are
    there once `opened` has made them. `notes` tell what is not there, `exposes` what the rest exposes.
    """

    directory: str
    devices: tuple[MountOp, ...]
    mounts: tuple[MountOp, ...]
    environment: Mapping[str, str]
    notes: tuple[str, ...]
    no_display: str  # why there is neither a compositor nor an X server although one was wanted; else ""
    exposes: tuple[tuple[str, str], ...]
    display: str  # a path of the X server's socket, "" if it is not shared
    x11_trusted: bool
    xauthority: str  # where the session's cookies are
    pulse: str  # the sound server's socket, "" if it is not shared
    may_record: bool
    bus: str  # the session bus's address, "" if it is not shared
    bus_options: tuple[str, ...]  # xdg-dbus-proxy's

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be said each time: the parts that give away what others do, as most would not expect.

        And that there is no display where one was wanted: the program's own words for it tell nothing of why.
        """
        loud = ("pipewire", "x11") if self.x11_trusted else ("pipewire",)
        exposed = tuple(sentence for key, sentence in self.exposes if key in loud)
        return (*exposed, f"no window can be opened: {self.no_display}") if self.no_display else exposed

    @property
    def only_display(self) -> int | None:
        """The X server that no second untrusted sandbox may have: to it all such programs are equal."""
        return int(self.display.rpartition("X")[2]) if self.display and not self.x11_trusted else None

    def lines(self) -> Iterator[str]:
        """What is shared and what each part exposes, and what was to be and is not there."""
        yield from (f"desktop.{key}: {sentence}" for key, sentence in self.exposes)
        yield from self.notes

    def lay(self, ops: Sequence[MountOp]) -> tuple[MountOp, ...]:
        """`ops` with these at their places."""
        place = next(i for i, op in enumerate(ops) if isinstance(op, ReadOnly) and op.target == "/dev")
        return (*ops[:place], *self.devices, *ops[place:], *self.mounts)


def find(desktop: Desktop, environ: Mapping[str, str], home: str) -> Shared | None:
    """What of the session that `environ` tells of a profile's table means; None if it wants nothing.

    `home` is the caller's. Raises SetupError for what is there and cannot be shared.
    """
    wanted = dict(exposures(desktop))
    if not wanted:
        return None
    from torbox.desktop import gpu, session, x11

    runtime = session.runtime_directory(environ)
    directory = session.private_name(runtime)
    mounts: list[MountOp] = [Directory(RUNTIME_INSIDE, mode=0o700)]
    devices: list[MountOp] = []
    variables = {"XDG_RUNTIME_DIR": RUNTIME_INSIDE}
    notes: list[str] = []

    def leave_out(key: str, why: str) -> None:
        del wanted[key]
        notes.append(f"desktop.{key} is left out: {why}")

    def socket_at(source: str, inside: str) -> None:
        mounts.append(Bind(source, inside, origin=source))

    if desktop.wayland:
        if compositor := session.wayland(environ, runtime):
            socket_at(compositor, f"{RUNTIME_INSIDE}/wayland-0")
            variables |= {"WAYLAND_DISPLAY": "wayland-0", "XDG_SESSION_TYPE": "wayland"}
        else:
            leave_out("wayland", "no Wayland compositor is running")
    display = ""
    if desktop.x11 == "untrusted" and "wayland" in wanted:
        leave_out("x11", "the program has Wayland")
    elif desktop.x11 != "off":
        number = x11.display_number(environ.get("DISPLAY", ""))
        display = session.socket(f"{x11.SOCKETS}/X{number}") if number is not None else ""
        if display:
            variables["DISPLAY"] = ":0"
            if desktop.x11 == "trusted":
                socket_at(display, f"{x11.SOCKETS}/X0")
                mounts.append(Bind(f"{directory}/Xauthority", _XAUTHORITY))
                variables["XAUTHORITY"] = _XAUTHORITY
            else:
                socket_at(f"{directory}/X", f"{x11.SOCKETS}/X0")
        else:
            leave_out("x11", "DISPLAY names no X server of this machine")
    displayless = (
        () if {"wayland", "x11"} & set(wanted) else tuple(notes)
    )  # they are the first to be looked for
    pulse = ""
    if desktop.sound != "off":
        pulse = session.pulse(environ, runtime)
        if pulse:
            socket_at(f"{directory}/pulse", f"{RUNTIME_INSIDE}/pulse/native")
            variables["PULSE_SERVER"] = f"unix:{RUNTIME_INSIDE}/pulse/native"
        else:
            leave_out("sound", "no sound server is running")
    if desktop.pipewire:
        if pipewire := session.pipewire(environ, runtime):
            socket_at(pipewire, f"{RUNTIME_INSIDE}/pipewire-0")
        else:
            leave_out("pipewire", "PipeWire is not running")
    if desktop.gpu:
        devices, described = gpu.operations()
        mounts += described
        if not devices:
            leave_out("gpu", "there is no render node in /dev/dri")
    bus = ""
    if "dbus" in wanted:
        bus = session.bus(environ, runtime)
        if bus:
            socket_at(f"{directory}/bus", f"{RUNTIME_INSIDE}/bus")
            variables["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={RUNTIME_INSIDE}/bus"
        else:
            leave_out("dbus", "no session bus is running")
    return Shared(
        directory=directory,
        devices=tuple(devices),
        mounts=tuple(mounts),
        environment=variables,
        notes=tuple(notes),
        no_display="; ".join(displayless),
        exposes=tuple(wanted.items()),
        display=display,
        x11_trusted=desktop.x11 == "trusted",
        xauthority=environ.get("XAUTHORITY") or f"{home}/.Xauthority",
        pulse=pulse,
        may_record=desktop.sound == "record",
        bus=bus,
        bus_options=(
            *(f"--talk={name}" for name in desktop.dbus_talk),
            *(f"--own={name}" for name in desktop.dbus_own),
            *(f"--call={rule}" for rule in desktop.dbus_call),
        ),
    )


class Opened:
    """What lives as long as the sandbox. `watched` is readable once some of it has ended before."""

    def __init__(self) -> None:
        self.watched: int | None = None
        self._directory = ""

    def take_away_names(self) -> None:
        """Once the sandbox has mounted them: nobody else is to reach what is in the directory."""
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = ""


@contextlib.contextmanager
def opened(
    shared: Shared | None,
    allowed: frozenset[str] = frozenset(),
    tell: Callable[[str, str], None] = lambda *_: None,
) -> Iterator[Opened]:
    """Make the cookie, the filter and the proxy, and end them with the block. Raises SetupError.

    `tell(name, why)` hears of each protection of theirs that is missing and `allowed` to be.
    """
    found = Opened()
    if shared is None or not (shared.display or shared.pulse or shared.bus):
        yield found
        return
    with contextlib.ExitStack() as stack:
        try:
            os.mkdir(shared.directory, 0o700)
        except OSError as error:
            raise SetupError(
                "make a directory for the desktop", error.errno or 0, shared.directory
            ) from error
        found._directory = shared.directory
        stack.callback(found.take_away_names)
        cookie, held = b"", None
        if shared.display:
            from torbox.desktop import x11

            cookie, held = x11.admit(shared.display, shared.xauthority, trusted=shared.x11_trusted)
            stack.enter_context(held)
            if shared.x11_trusted:
                _write(f"{shared.directory}/Xauthority", x11.xauthority(cookie))
        found.watched = _start(shared, cookie, held, stack, allowed, tell)
        yield found


def _start(
    shared: Shared,
    cookie: bytes,
    held: socket.socket | None,
    stack: contextlib.ExitStack,
    allowed: frozenset[str],
    tell: Callable[[str, str], None],
) -> int:
    """The doors of a sandbox and the bus's proxy; what is given is readable once one of them has ended.

    `held` keeps the X server's cookie valid. To a server that does not know it (one that has been restarted)
    a client is the user's own, whom it may let in without, with everything allowed.
    """
    from torbox.desktop import bus, doorman, pulse, x11_filter

    doors = []

    def door(
        name: str,
        server: str,
        judge: Callable[[], doorman.Judge],
        *,
        descriptors: bool = False,
        at_most: int = doorman.PASSAGES_MAX,
    ) -> None:
        listener = stack.enter_context(doorman.listening(name))
        doors.append(doorman.Door(listener, server, judge, descriptors, at_most))

    if held is not None and not shared.x11_trusted:
        clients = x11_filter.Clients(cookie, x11_filter.numbers(held))
        door(f"{shared.directory}/X", shared.display, clients.enter)
    if shared.pulse:
        door(
            f"{shared.directory}/pulse",
            shared.pulse,
            lambda: pulse.Filter(may_record=shared.may_record),
            at_most=pulse.CONNECTIONS_MAX,
        )
    to_the_bus, uid = f"{shared.directory}/to-the-bus", os.getuid()
    if shared.bus:
        door(to_the_bus, shared.bus, lambda: bus.Introduction(uid), descriptors=True)
    ended = stack.enter_context(select.epoll())
    if doors:
        lifeline = None if shared.x11_trusted else held
        ended.register(stack.enter_context(doorman.posted(doors, lifeline, allowed, tell)), select.EPOLLIN)
    if shared.bus:
        proxy = bus.Proxy(to_the_bus, f"{shared.directory}/bus", shared.bus_options, allowed, tell)
        stack.callback(proxy.end)
        ended.register(proxy.readable, select.EPOLLIN)
    return ended.fileno()


def _write(path: str, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(content)
