# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that draw on a terminal, ask it and read keys from it, as people use them."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.directories import open_directory
from tests.support.people import Person
from tests.support.servers import free_port, program, wait_until_listening
from tests.support.terminal import Emulator

BLOCK = ("--upstream", "block", "--")
ESCAPE, CTRL_B, CTRL_Q, CTRL_S = "\x1b", "\x02", "\x11", "\x13"

SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/key
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication yes
KbdInteractiveAuthentication no
"""


@contextmanager
def drawn(person: Person, *arguments: str) -> Iterator[Emulator]:
    with Emulator(person.command("run", "-q", *arguments), person.environment) as emulator:
        yield emulator


def test_vim_edits_a_file_and_follows_the_windows_size(person: Person) -> None:
    script = "vim -u NONE -N note.txt; echo wrote: $(cat note.txt)"
    with drawn(person, *BLOCK, "sh", "-c", script) as screen:
        screen.see('"note.txt" [New]')
        screen.type("ihello from inside")
        screen.see("hello from inside\n~")
        screen.resize(40, 100)
        screen.see("\n~" * 30)
        screen.type(f"{ESCAPE}:set lines? columns?\r")
        screen.see("lines=40")
        screen.see("columns=100")
        screen.type("\r:wq\r")
        screen.see("wrote: hello from inside")


def test_less_takes_keys_from_the_terminal_while_its_input_is_a_pipe(person: Person) -> None:
    with drawn(person, *BLOCK, "sh", "-c", "seq 1000 | less; echo ended") as screen:
        assert screen.see("\n23\n:").startswith("1\n2\n3\n")
        screen.type(" ")
        screen.see("\n46\n:")
        screen.type("G")
        screen.see("\n1000\n(END)")
        screen.type("q")
        screen.see("ended")


def test_htop_shows_the_sandboxs_processes_alone(person: Person) -> None:
    with drawn(person, *BLOCK, "htop") as screen:
        shown = screen.see("F10")
        assert "Tasks:" in shown
        rows = [line.split() for line in shown.splitlines()]
        assert {row[0] for row in rows if row and row[0].isdigit()} <= {"1", "2", "3"}
        screen.type("q")
        assert screen.ended() == 0


def test_tmux_draws_splits_and_ends_with_the_sandbox(person: Person) -> None:
    with drawn(person, *BLOCK, "tmux", "-f", "/dev/null", "new", "-s", "inside", "sh") as screen:
        screen.see("[inside]")
        screen.type("echo in $((40 + 2))\r")
        screen.see("in 42")
        screen.type(f'{CTRL_B}"')
        screen.see("───")
        screen.type(f"{CTRL_B}d")
        screen.see("[detached")
        assert screen.ended() == 0


def test_ctrl_s_holds_the_programs_output_and_ctrl_q_lets_it_go_on(person: Person) -> None:
    with drawn(person, *BLOCK, "bash", "--norc", "--noediting", "-i") as screen:
        screen.type(f"echo on{CTRL_S}e; echo t''wo; read\n{CTRL_Q}")
        screen.see("two")


@pytest.fixture(scope="module")
def sshd(everyone: list[Person]) -> Iterator[int]:
    """A server that nobody may log in to, as the ordinary user."""
    user = everyone[0]
    with open_directory() as directory:
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / "key"],
            stdin=subprocess.DEVNULL,
            check=True,
        )
        port = free_port()
        (directory / "conf").write_text(SSHD.format(port=port, directory=directory))
        for path in (directory, *directory.iterdir()):
            shutil.chown(path, user.uid)
        command = [*user.prefix, program("sshd"), "-D", "-e", "-f", str(directory / "conf")]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as server:
            try:
                wait_until_listening(port, server)
                yield port
            finally:
                server.terminate()


def test_ssh_asks_for_a_password_on_the_terminal_and_does_not_show_it(person: Person, sshd: int) -> None:
    ssh = ("ssh", "-o", "StrictHostKeyChecking=accept-new", "-p", str(sshd), "somebody@10.0.2.2")
    options = ("--upstream", "direct", "--host-loopback", "--")
    with drawn(person, *options, *ssh) as screen:
        screen.see("somebody@10.0.2.2's password:")
        screen.type("not the password\r")
        assert "not the" not in screen.see("Permission denied, please try again.")
        screen.type("\x03")
        assert screen.ended() == signal.SIGINT
    assert not Path(person.home, ".ssh").exists()
