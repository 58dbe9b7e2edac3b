# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of an X server that says what it is told to, byte by byte; the standard library alone, for inside.

python3 x_client.py SOCKET own      holds the clipboard and says who it is; ready once a line is read
python3 x_client.py SOCKET look     tells, a line for each, what it gets of what others have
"""

from __future__ import annotations

import select
import socket
import struct
import sys

CLIPBOARD, PULSE, MACHINE, TITLE = b"CLIPBOARD", b"PULSE_SERVER", b"WM_CLIENT_MACHINE", b"WM_NAME"
SECRET = b"hunter2"


class Client:
    """A connection, with one window."""

    def __init__(self, path: str) -> None:
        self.end = socket.socket(socket.AF_UNIX)
        self.end.connect(path)
        self.end.sendall(struct.pack("<BxHHHHxx", ord("l"), 11, 0, 0, 0))
        _, units = struct.unpack("<BxxxxxH", self.read(8))
        told = self.read(units * 4)
        (base,) = struct.unpack_from("<I", told, 4)
        (vendor,) = struct.unpack_from("<H", told, 16)
        (self.root,) = struct.unpack_from("<I", told, 32 + vendor + -vendor % 4 + told[21] * 8)
        self.window = base + 1
        self.say(1, self.window, self.root, 0, 9 | 9 << 16, 1 << 16, 0, 0x800, 0x400000)

    def read(self, size: int) -> bytes:
        found = self.end.recv(size, socket.MSG_WAITALL) if size else b""
        assert len(found) == size
        return found

    def say(self, opcode: int, *fields: int, detail: int = 0, rest: bytes = b"") -> None:
        body = struct.pack(f"<{len(fields)}I", *fields) + rest + bytes(-len(rest) % 4)
        self.end.sendall(struct.pack("<BBH", opcode, detail, 1 + len(body) // 4) + body)

    def message(self) -> bytes:
        found = self.read(32)
        return found + self.read(4 * struct.unpack_from("<I", found, 4)[0]) if found[0] == 1 else found

    def reply(self) -> bytes:
        """The next reply or error."""
        while (found := self.message())[0] > 1:
            pass
        return found

    def event(self, kind: int, within_s: float) -> bytes:
        """The next of this kind; b"" if there is none in time."""
        while select.select([self.end], [], [], within_s)[0]:
            if (found := self.message())[0] & 0x7F == kind:
                return found
        return b""

    def atom(self, name: bytes) -> int:
        self.say(16, len(name), rest=name)
        return int(struct.unpack_from("<I", self.reply(), 8)[0])

    def put(self, window: int, name: bytes | int, value: bytes) -> None:
        atom = name if isinstance(name, int) else self.atom(name)
        self.say(18, window, atom, 31, 8, len(value), rest=value)

    def get(self, window: int, name: bytes) -> bytes:
        self.say(20, window, self.atom(name), 0, 0, 1000)
        told = self.reply()
        return told[32 : 32 + struct.unpack_from("<I", told, 16)[0]] if told[0] else b"error"

    def take(self, selection: bytes) -> None:
        self.say(22, self.window, self.atom(selection), 0)

    def owner(self, selection: bytes) -> int:
        self.say(23, self.atom(selection))
        return int(struct.unpack_from("<I", self.reply(), 8)[0])

    def ask(self, selection: bytes) -> None:
        self.say(24, self.window, self.atom(selection), 31, self.atom(b"ANSWER"), 0)

    def give(self, asked: bytes) -> None:
        """Answer a SelectionRequest."""
        time, _, requestor, selection, target, name = struct.unpack_from("<6I", asked, 4)
        self.put(requestor, name, SECRET)
        sent = struct.pack("<BBH5I8x", 31, 0, 0, time, requestor, selection, target, name)
        self.say(25, requestor, 0, rest=sent)

    def given(self) -> str:
        """What comes of having asked."""
        notified = self.event(31, 5)
        if not notified:
            return "no answer"
        _, _, selection, _, name = struct.unpack_from("<5I", notified, 4)
        assert selection == self.atom(CLIPBOARD) or not name
        return self.get(self.window, b"ANSWER").decode() if name else "nothing"


def own(path: str) -> None:
    client = Client(path)
    client.put(client.window, TITLE, b"the user's bank")
    client.put(client.window, MACHINE, b"annas-laptop")
    client.put(client.root, PULSE, b"unix:/run/user/1000/pulse/native")
    client.take(CLIPBOARD)
    assert client.owner(CLIPBOARD) == client.window
    print("ready", flush=True)
    while True:
        message = client.message()
        if message[0] & 0x7F == 30:
            client.give(message)
        elif message[0] & 0x7F == 29:
            print("taken", flush=True)


def look(path: str) -> None:
    client, second = Client(path), Client(path)
    client.ask(CLIPBOARD)
    print("clipboard:", client.given())
    client.ask(b"_XSETTINGS_S0")
    print("another selection:", client.given())
    client.say(15, client.root)
    tree = client.reply()
    windows = struct.unpack_from(f"<{struct.unpack_from('<H', tree, 16)[0]}I", tree, 32)
    others = [each for each in windows if each not in (client.window, second.window)]
    said = {client.get(window, name) for window in others for name in (TITLE, MACHINE)}
    print("others:", len(others) > 0, *sorted(said))
    print("root:", client.get(client.root, PULSE))
    client.put(client.root, PULSE, b"unix:/tmp/evil")
    for window in others:
        client.put(window, TITLE, b"changed")
    client.take(CLIPBOARD)
    print("own:", client.owner(CLIPBOARD) == second.owner(CLIPBOARD) == client.window)
    second.ask(CLIPBOARD)
    client.give(client.event(30, 5))
    print("pasted:", second.given())
    client.say(2, client.window, 0x800, 1)  # keys
    client.say(8, client.window)  # show it
    client.say(31, client.window, 0, 0x0101)
    print("keyboard:", client.reply()[1], client.event(2, 1))


if __name__ == "__main__":
    {"own": own, "look": look}[sys.argv[2]](sys.argv[1])
