# SPDX-License-Identifier: GPL-3.0-or-later
"""What an untrusted program may say to the X server: what is about its own windows, and little else.

X Window System Protocol, version 11: §1 (formats), §8 (connection setup), appendix B (encoding); ICCCM §2.

The server's SECURITY extension keeps pictures and keys of the session's own programs from one with an
untrusted cookie. It does not know of selections (the clipboard), shows others' properties, and makes no
difference between untrusted programs. Here a sandbox's clients are known by their resource ids, and what they
may name is their own:

    selections        are the sandbox's own: PRIMARY and CLIPBOARD go on under other names, and come back
                      under theirs; any other is owned by nobody
    properties        of others' windows are not there, but for the few of the root window that are needed
    others' windows   are not changed, drawn into, read, grabbed or sent events
    the keyboard      is not grabbed: it goes where the focus is

Requests are numbered by both ends, so none is left out: what is refused goes on as NoOperation of the same
length, or, if an answer is waited for, as the same request about nothing.
"""

from __future__ import annotations

import socket
import struct
import weakref
from collections import deque
from dataclasses import dataclass

from torbox.desktop import x11

_SELECTIONS = (b"PRIMARY", b"SECONDARY", b"CLIPBOARD", b"XdndSelection")
_OURS = b"_TORBOX_"  # before a selection's name; as atoms stay with a server for ever, always the same
_NOTHING = b"_TORBOX_NOTHING"  # is owned by nobody, and no window has it
# Of the root window: what a window manager can do, and the settings of all programs (resolution, fonts).
_READABLE = (
    *(b"RESOURCE_MANAGER", b"_NET_SUPPORTED", b"_NET_SUPPORTING_WM_CHECK", b"_NET_WORKAREA"),
    *(
        b"_NET_NUMBER_OF_DESKTOPS",
        b"_NET_CURRENT_DESKTOP",
        b"_NET_DESKTOP_GEOMETRY",
        b"_NET_DESKTOP_VIEWPORT",
    ),
    *(b"_NET_FRAME_EXTENTS", b"_MOTIF_WM_INFO", b"_GTK_WORKAREAS_D0", b"_GTK_EDGE_CONSTRAINTS"),
)
_CHECK, _PING, _PROTOCOLS = b"_NET_SUPPORTING_WM_CHECK", b"_NET_WM_PING", b"WM_PROTOCOLS"

_NO_OPERATION = 127
_CHANGE_ATTRIBUTES, _GET_PROPERTY, _SEND_EVENT, _WARP_POINTER = 2, 20, 25, 41
_SET_OWNER, _GET_OWNER, _CONVERT, _GRAB_KEYBOARD, _GET_MOTION = 22, 23, 24, 31, 39
_EVENT_MASK = 0x800  # of a window's attributes; and the events that a program needs of the root window:
_ROOT_EVENTS = 0x400000 | 0x20000  # PropertyChange, StructureNotify
_UNMAP_NOTIFY, _CLEAR, _REQUEST, _NOTIFY, _CLIENT_MESSAGE, _GENERIC = 18, 29, 30, 31, 33, 35
_SELECTION_AT = {_CLEAR: 12, _REQUEST: 16, _NOTIFY: 12}  # in an event

# Never: GrabServer and UngrabServer, which hold up all windows; SetCloseDownMode, which leaves some behind.
_NEVER = frozenset((36, 37, 112))
# Where a request names what must be the client's own. Without an answer: windows from DestroyWindow to
# CirculateWindow and their properties, passive grabs, SetInputFocus, drawing, and KillClient.
_OWN = {
    **dict.fromkeys(
        (*range(4, 14), 18, 19, 28, 29, 33, 34, 42, *range(61, 73), *range(74, 78), 113, 114), (4,)
    ),
    62: (4, 8),
    63: (4, 8),
    _WARP_POINTER: (8,),
}
# With one: ListProperties, GrabPointer, GrabKeyboard, GetImage.
_OWN_ANSWERED = frozenset((21, 26, 31, 73))
# And a window's parent, which may be the root window: CreateWindow, ReparentWindow.
_PARENT = frozenset((1, 7))

_HEAD_MAX = 48  # bytes of a request that are judged: SendEvent's 44, and the length of a big one
_REQUEST_MAX = 1 << 22  # 4-byte units; Xorg takes 2^22 - 1 unless told otherwise
_WAITING_MAX = 1024  # answers for selections that are nobody's


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a server calls what is judged; all but `big_requests` are atoms."""

    selections: dict[int, int]  # to what they are called on the server
    nothing: int
    readable: frozenset[int]  # properties of the root window
    check: int
    ping: int
    protocols: int
    big_requests: int  # the extension's opcode, 0 without it


def numbers(held: socket.socket) -> Numbers:
    """Ask a server by a client's connection, of little-endian. Raises SetupError."""
    private = tuple(_OURS + name for name in _SELECTIONS)
    names = (*_SELECTIONS, *private, _NOTHING, *_READABLE, _PING, _PROTOCOLS)
    atoms, opcode = x11.look_up(held, names, b"BIG-REQUESTS")
    found = dict(zip(names, atoms, strict=True))
    return Numbers(
        {found[name]: found[_OURS + name] for name in _SELECTIONS},
        found[_NOTHING],
        frozenset(found[name] for name in _READABLE),
        found[_CHECK],
        found[_PING],
        found[_PROTOCOLS],
        opcode,
    )


class Clients:
    """Those of one sandbox: they share windows and selections."""

    def __init__(self, cookie: bytes, known: Numbers) -> None:
        self.cookie, self.known = cookie, known
        self.back = {private: name for name, private in known.selections.items()}
        self._all: weakref.WeakSet[Filter] = weakref.WeakSet()

    def enter(self) -> Filter:
        """A new one, who is one of them for as long as it is kept."""
        found = Filter(self)
        self._all.add(found)
        return found

    def own(self, resource: int) -> bool:
        """Whether a window, pixmap or other resource is one of theirs."""
        return any(each.ids and resource & ~each.ids[1] == each.ids[0] for each in self._all)


class Filter:
    """One client's connection."""

    def __init__(self, clients: Clients) -> None:
        self._clients, self._known = clients, clients.known
        self.ids: tuple[int, int] | None = None  # the base and mask of its resources' ids; §8
        self._roots: frozenset[int] = frozenset()
        self._order = ""
        self._said, self._told = bytearray(), bytearray()
        self._is_in = self._is_let_in = False  # the client has said its set-up; the server has answered it
        self._passing = self._passing_back = 0  # bytes of a message that are still to come
        self._takes_big = False
        self._nobodys: deque[int] = deque()  # selections that are being waited for

    def feed(self, content: bytes) -> tuple[bytes, bytes]:
        """What goes on to the server. ValueError for what is no request or more than is answered."""
        said = self._said
        said += content
        on = bytearray()
        if not self._is_in and not self._enter(on):
            return b"", b""
        while said:
            if self._passing:
                taken = min(self._passing, len(said))
                on += said[:taken]
                self._passing -= taken
                del said[:taken]
            elif not self._request(on):
                break
        return bytes(on), b""

    def _enter(self, on: bytearray) -> bool:
        """The set-up, with the sandbox's cookie in the place of the client's."""
        said = self._said
        if len(said) < 12:
            return False
        self._order = {ord("l"): "<", ord("B"): ">"}.get(said[0], "")
        if not self._order:
            raise ValueError("this is not X11")
        _, major, minor, name, data = struct.unpack_from(f"{self._order}BxHHHH", said)
        end = 12 + name + -name % 4 + data + -data % 4
        if len(said) < end:
            return False
        on += x11.setup(self._order, said[0], major, minor, self._clients.cookie)
        del said[:end]
        self._is_in = True
        return True

    def _request(self, on: bytearray) -> bool:
        """Judge the next request by its head. False if that is not there yet."""
        said, shift = self._said, 0
        if len(said) < 4:
            return False
        (units,) = struct.unpack_from(f"{self._order}H", said, 2)
        if units == 0:  # the server reads on as we do only if it agreed to big requests
            if not self._takes_big:
                raise ValueError("a request without a length")
            if len(said) < 8:
                return False
            (units,) = struct.unpack_from(f"{self._order}I", said, 4)
            if not 2 <= units <= _REQUEST_MAX:
                raise ValueError("a request of no length that can be")
            shift = 4
        head = min(units * 4, _HEAD_MAX)
        if len(said) < head:
            return False
        request = said[:head]
        self._judge(request, shift)
        if self._known.big_requests and request[:2] == bytes((self._known.big_requests, 0)) and units == 1:
            self._takes_big = True
        on += request
        del said[:head]
        self._passing = units * 4 - head
        return True

    def _judge(self, request: bytearray, shift: int) -> None:
        """Change a request into what may be asked; one that is too short for its kind asks nothing."""
        opcode = request[0]
        own = self._clients.own

        def field(at: int) -> int:
            return int(struct.unpack_from(f"{self._order}I", request, at + shift)[0])

        def put(at: int, value: int) -> None:
            struct.pack_into(f"{self._order}I", request, at + shift, value)

        try:
            if opcode in _NEVER:
                request[0] = _NO_OPERATION
            elif opcode == _GET_PROPERTY:
                window, name = field(4), field(8)
                if not own(window) and not self._is_readable(window, name):
                    request[1] = 0  # do not delete
                    put(8, self._known.nothing)
            elif opcode == _CHANGE_ATTRIBUTES:
                if not own(window := field(4)):
                    if window in self._roots and field(8) == _EVENT_MASK:
                        put(12, field(12) & _ROOT_EVENTS)
                    else:
                        request[0] = _NO_OPERATION
            elif opcode == _SEND_EVENT:
                if self._may_send(field, request[12 + shift] & 0x7F):
                    self._rename(request, 12 + shift, self._known.selections)
                else:
                    request[0] = _NO_OPERATION
            elif opcode in (_SET_OWNER, _CONVERT):
                private = self._known.selections.get(field(8))
                owner = field(4)
                if not own(owner) and (opcode == _CONVERT or owner):
                    request[0] = _NO_OPERATION
                elif private is not None:
                    put(8, private)
                elif opcode == _SET_OWNER:
                    request[0] = _NO_OPERATION
                else:
                    self._nobodys.append(field(8))
                    put(8, self._known.nothing)
            elif opcode == _GET_OWNER:
                put(4, self._known.selections.get(field(4), self._known.nothing))
            elif opcode in _OWN_ANSWERED:
                if not own(field(4)):
                    put(4, 0)  # an error, as of one that is gone
                elif opcode == _GRAB_KEYBOARD:
                    # The server would grant it wherever the focus is. Menus want one, and do without if they
                    # do not know: that there was no motion from 2 ms to 1 ms has the same answer as success.
                    request[0] = _GET_MOTION
                    put(8, 2)
                    put(12, 1)
            elif not all(map(own, map(field, _OWN.get(opcode, ())))) or (
                opcode in _PARENT and not own(field(8)) and field(8) not in self._roots
            ):
                request[0] = _NO_OPERATION
        except (struct.error, IndexError):
            request[0] = _NO_OPERATION
        if len(self._nobodys) > _WAITING_MAX:
            raise ValueError("more selections than are answered")

    def _is_readable(self, window: int, name: int) -> bool:
        """Of others' windows: the root's few, and the one by which a window manager shows itself."""
        return name == self._known.check or (window in self._roots and name in self._known.readable)

    def _may_send(self, field: x11.Field, kind: int) -> bool:
        """Events for its own windows; and what a window manager is asked, by the root window, about these."""
        destination = field(4)
        if self._clients.own(destination):
            return True
        if destination not in self._roots:
            return False
        if kind == _UNMAP_NOTIFY:  # ICCCM §4.1.4
            return self._clients.own(field(20))
        if kind != _CLIENT_MESSAGE:
            return False
        is_pong = (field(20), field(24)) == (self._known.protocols, self._known.ping)
        return self._clients.own(field(16)) or (field(16) in self._roots and is_pong)

    def _rename(self, message: bytearray, at: int, names: dict[int, int]) -> None:
        """The selection in an event, if there is one."""
        place = _SELECTION_AT.get(message[at] & 0x7F)
        if place is not None:
            (name,) = struct.unpack_from(f"{self._order}I", message, at + place)
            struct.pack_into(f"{self._order}I", message, at + place, names.get(name, name))

    def reply(self, content: bytes) -> bytes:
        """What comes back, with selections under their names."""
        told = self._told
        told += content
        back = bytearray()
        if not self._is_let_in and not self._let_in(back):
            return b""
        while told:
            if self._passing_back:
                taken = min(self._passing_back, len(told))
                back += told[:taken]
                self._passing_back -= taken
                del told[:taken]
                continue
            if len(told) < 32:
                break
            message = told[:32]
            del told[:32]
            kind = message[0] & 0x7F
            if message[0] == 1 or kind == _GENERIC:
                self._passing_back = 4 * int(struct.unpack_from(f"{self._order}I", message, 4)[0])
            elif kind in _SELECTION_AT:
                self._restore(message)
            back += message
        return bytes(back)

    def _restore(self, event: bytearray) -> None:
        at = _SELECTION_AT[event[0] & 0x7F]
        (name,) = struct.unpack_from(f"{self._order}I", event, at)
        if name == self._known.nothing and event[0] == _NOTIFY and self._nobodys:
            struct.pack_into(f"{self._order}I", event, at, self._nobodys.popleft())  # they come in order
        else:
            self._rename(event, 0, self._clients.back)

    def _let_in(self, back: bytearray) -> bool:
        """The server's answer to the set-up, which tells ids and root windows; §8."""
        told = self._told
        if len(told) < 8 or not self._order:
            return False
        status, units = struct.unpack_from(f"{self._order}BxxxxxH", told)
        end = 8 + units * 4
        if len(told) < end:
            return False
        if status == 1:
            answer = bytes(told[:end])
            try:
                self.ids = struct.unpack_from(f"{self._order}II", answer, 12)
                self._roots = frozenset(self._screens(answer))
            except (struct.error, IndexError):
                raise ValueError("this is no X server") from None
        back += told[:end]
        del told[:end]
        self._is_let_in = True
        return True

    def _screens(self, answer: bytes) -> list[int]:
        (vendor,) = struct.unpack_from(f"{self._order}H", answer, 24)
        screens, formats = answer[28], answer[29]
        at = 40 + vendor + -vendor % 4 + formats * 8
        roots: list[int] = []
        for _ in range(screens):
            roots += struct.unpack_from(f"{self._order}I", answer, at)
            depths, at = answer[at + 39], at + 40
            for _ in range(depths):
                (visuals,) = struct.unpack_from(f"{self._order}H", answer, at + 2)
                at += 8 + visuals * 24
        return roots
