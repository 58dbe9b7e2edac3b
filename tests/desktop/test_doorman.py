# SPDX-License-Identifier: GPL-3.0-or-later
"""The process between a client and a server: what passes, in which order, and what ends with what."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import wait_until_gone
from torbox import syscalls
from torbox.desktop import doorman
from torbox.desktop.doorman import Door
from torbox.errors import SetupError


class Shout:
    """A filter: small letters become large, a full stop is answered, a question mark ends it."""

    def feed(self, content: bytes) -> tuple[bytes, bytes]:
        if b"?" in content:
            raise ValueError
        return content.replace(b".", b"").upper(), b"stop" * content.count(b".")

    def reply(self, content: bytes) -> bytes:
        return content


@pytest.fixture
def server(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "server"))
        listener.listen(8)
        listener.settimeout(10)
        yield listener


@pytest.fixture
def client(tmp_path: Path, server: socket.socket) -> Iterator[socket.socket]:
    """Connected to a doorman who passes descriptors."""
    with doorman.listening(str(tmp_path / "door")) as listener:
        door = Door(listener, str(tmp_path / "server"), Shout, True)
        with doorman.posted([door]), socket.socket(socket.AF_UNIX) as end:
            end.settimeout(10)
            end.connect(str(tmp_path / "door"))
            yield end


def received(end: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        chunk = end.recv(size - len(found))
        if not chunk:
            break
        found += chunk
    return found


def test_what_the_filter_lets_pass_goes_on_and_its_answers_come_back(
    client: socket.socket, server: socket.socket
) -> None:
    other, _ = server.accept()
    with other:
        client.sendall(b"some.thing")
        assert received(other, 9) == b"SOMETHING"
        assert received(client, 4) == b"stop"
        other.sendall(b"as it is.")
        assert received(client, 9) == b"as it is."


def test_much_passes_both_ways_at_once_and_ends_are_passed_on(
    client: socket.socket, server: socket.socket
) -> None:
    other, _ = server.accept()
    size = 3 << 20
    with other:
        for end in (client, other):
            end.setblocking(False)
        sent, got = {client: 0, other: 0}, {client: b"", other: b""}
        while min(len(each) for each in got.values()) < size:
            for end in (client, other):
                try:
                    if sent[end] < size:
                        sent[end] += end.send(b"X" * min(65536, size - sent[end]))
                except BlockingIOError:
                    pass
                try:
                    got[end] += end.recv(1 << 20)
                except BlockingIOError:
                    pass
        assert got[client] == got[other] == b"X" * size
        for end in (client, other):
            end.settimeout(10)
        client.shutdown(socket.SHUT_WR)
        assert other.recv(1) == b""
        other.sendall(b"last words")
        other.close()
        assert received(client, 20) == b"last words"


def test_a_descriptor_goes_along(client: socket.socket, server: socket.socket) -> None:
    other, _ = server.accept()
    reads, writes = os.pipe()
    with other:
        other.settimeout(10)
        socket.send_fds(client, [b"here"], [writes])
        os.close(writes)
        _, passed, _, _ = socket.recv_fds(other, 4, 4)
        os.write(passed[0], b"through it")
        os.close(passed[0])
    assert os.read(reads, 20) == b"through it"
    os.close(reads)


def test_a_fault_ends_that_connection_and_no_other(
    client: socket.socket, server: socket.socket, tmp_path: Path
) -> None:
    first, _ = server.accept()
    client.sendall(b"what?")
    assert client.recv(1) == b""
    first.close()
    with socket.socket(socket.AF_UNIX) as again:
        again.settimeout(10)
        again.connect(str(tmp_path / "door"))
        second, _ = server.accept()
        with second:
            again.sendall(b"hello")
            assert received(second, 5) == b"HELLO"


def test_more_descriptors_than_a_message_has_end_the_connection(
    client: socket.socket, server: socket.socket
) -> None:
    other, _ = server.accept()
    with other, open(os.devnull) as null:
        many = array.array("i", [null.fileno()] * 40)
        client.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, many)])
        assert client.recv(1) == b""


def test_the_doorman_holds_nothing_of_its_callers_and_ends_with_the_block(tmp_path: Path) -> None:
    secret = os.open(tmp_path / "secret", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(secret, True)
    with socket.socket(socket.AF_UNIX) as silent, doorman.listening(str(tmp_path / "door")) as listener:
        silent.bind(str(tmp_path / "server"))
        door = Door(listener, str(tmp_path / "server"), Shout, False)
        with doorman.posted([door]) as pidfd:
            with socket.socket(socket.AF_UNIX) as end:
                end.settimeout(10)
                end.connect(str(tmp_path / "door"))
                assert end.recv(1) == b""  # nobody serves, but there is a doorman
            with open(f"/proc/self/fdinfo/{pidfd}") as info:
                pid = next(int(line.split()[1]) for line in info if line.startswith("Pid:"))
            if os.geteuid() == 0:  # nobody else may look
                open_files = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()}
                assert str(tmp_path / "secret") not in open_files
                status = Path(f"/proc/{pid}/status").read_text()
                assert "NoNewPrivs:\t1" in status
        wait_until_gone({pid})
    os.close(secret)


def test_who_has_a_lifeline_leaves_with_the_server_and_shows_nobody_in_to_the_next(
    server: socket.socket, tmp_path: Path
) -> None:
    lifeline, its_end = socket.socketpair()
    lifeline.settimeout(0.2)  # as that of x11.admit has one: its silence is not its end
    with lifeline, doorman.listening(str(tmp_path / "door")) as listener:
        door = Door(listener, str(tmp_path / "server"), Shout, False)
        with doorman.posted([door], lifeline) as pidfd, socket.socket(socket.AF_UNIX) as early:
            early.settimeout(10)
            early.connect(str(tmp_path / "door"))
            other, _ = server.accept()
            its_end.sendall(b"what a server says to all of its clients")
            for _ in range(3):
                assert not select.select([pidfd], [], [], 0.25)[0]
                early.sendall(b"hello")
                assert received(other, 5) == b"HELLO"
            its_end.close()
            assert select.select([pidfd], [], [], 10)[0]
            assert early.recv(1) == other.recv(1) == b""
            other.close()


def test_a_server_that_has_come_in_the_place_of_another_is_not_talked_to(
    server: socket.socket, tmp_path: Path
) -> None:
    lifeline, its_end = socket.socketpair()
    with (
        lifeline,
        doorman.listening(str(tmp_path / "door")) as listener,
        socket.socket(socket.AF_UNIX) as end,
    ):
        end.connect(str(tmp_path / "door"))
        lifeline.setblocking(False)
        its_end.close()
        passages: dict[int, doorman.Passage] = {}
        doorman._let_in(Door(listener, str(tmp_path / "server"), Shout, False), passages, lifeline)
        assert not passages


def test_a_doorman_without_his_server_is_not_posted(tmp_path: Path) -> None:
    with doorman.listening(str(tmp_path / "door")) as listener:
        door = Door(listener, str(tmp_path / "nowhere"), Shout, False)
        with pytest.raises(SetupError, match=r"confine the desktop's doorman.*No such file"):
            doorman.posted([door]).__enter__()


def test_what_he_does_without_is_told_if_it_is_allowed_to_be_missing(
    server: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(syscalls, "unshare", refuse)
    told: list[str] = []
    with doorman.listening(str(tmp_path / "door")) as listener, socket.socket(socket.AF_UNIX) as end:
        doors = [Door(listener, str(tmp_path / "server"), Shout, False)]
        with pytest.raises(SetupError, match="--allow-missing stack-namespaces"):
            doorman.posted(doors).__enter__()
        allowed = frozenset({"stack-namespaces"})
        with doorman.posted(doors, None, allowed, lambda name, _why: told.append(name)):
            end.connect(str(tmp_path / "door"))
            other, _ = server.accept()
            with other:
                end.sendall(b"hello")
                assert received(other, 5) == b"HELLO"
    assert told == ["stack-namespaces"]


def test_an_abstract_server_and_one_by_path_are_behind_one_doorman(
    server: socket.socket, tmp_path: Path
) -> None:
    name = f"torbox-test-{os.getpid()}"
    with (
        socket.socket(socket.AF_UNIX) as abstract,
        doorman.listening(str(tmp_path / "one")) as one,
        doorman.listening(str(tmp_path / "two")) as two,
    ):
        abstract.bind(f"\0{name}")
        abstract.listen()
        abstract.settimeout(10)
        doors = [Door(one, f"@{name}", Shout, False), Door(two, str(tmp_path / "server"), Shout, False)]
        with doorman.posted(doors):
            for door, there in (("one", abstract), ("two", server)):
                with socket.socket(socket.AF_UNIX) as end:
                    end.connect(str(tmp_path / door))
                    other, _ = there.accept()
                    with other:
                        end.sendall(b"hello")
                        assert received(other, 5) == b"HELLO"


def test_a_door_has_its_own_number_of_passages_and_no_other_waits_for_it(
    server: socket.socket, tmp_path: Path
) -> None:
    with (
        doorman.listening(str(tmp_path / "one")) as one,
        doorman.listening(str(tmp_path / "two")) as two,
        contextlib.ExitStack() as stack,
    ):
        doors = [
            Door(one, str(tmp_path / "server"), Shout, False, passages_max=2),
            Door(two, str(tmp_path / "server"), Shout, False),
        ]
        stack.enter_context(doorman.posted(doors))

        def come(door: str) -> socket.socket:
            end = stack.enter_context(socket.socket(socket.AF_UNIX))
            end.settimeout(10)
            end.connect(str(tmp_path / door))
            end.sendall(door.encode())
            return end

        def shown_in() -> tuple[socket.socket, bytes]:
            other, _ = server.accept()
            stack.enter_context(other)
            return other, received(other, 3)

        first = [come("one") for _ in range(3)]
        seen = [shown_in()[1] for _ in range(2)]
        come("two")  # although there is one more at the first door
        seen.append(shown_in()[1])
        assert seen == [b"ONE", b"ONE", b"TWO"]
        first[0].sendall(b"?")  # ends it, so there is room
        assert shown_in()[1] == b"ONE"


def test_who_does_not_introduce_itself_is_dropped_and_who_has_is_not(
    server: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorman, "SILENCE_MAX_S", 0.3)
    with doorman.listening(str(tmp_path / "door")) as listener:
        door = Door(listener, str(tmp_path / "server"), Shout, False)
        with (
            doorman.posted([door]),
            socket.socket(socket.AF_UNIX) as known,
            socket.socket(socket.AF_UNIX) as silent,
        ):
            for end in (known, silent):
                end.settimeout(10)
                end.connect(str(tmp_path / "door"))
            known.sendall(b"hello")
            silent.sendall(b".")  # which is answered, and nothing of it goes on
            others = [server.accept()[0] for _ in range(2)]
            assert received(silent, 5) == b"stop"
            known.sendall(b".")
            assert received(known, 4) == b"stop"
            for other in others:
                other.close()
