# SPDX-License-Identifier: GPL-3.0-or-later
"""A terminal inside behaves as the same program would without torbox, seen from an interactive shell."""

from __future__ import annotations

import fcntl
import os
import select
import shlex
import signal
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.people import Person
from tests.support.processes import descendants, wait_until_gone
from tests.support.terminal import PROMPT, Screen, shell

# Announces itself, announces each SIGCONT, reads a line if told to, then waits for its end.
PROGRAM = r"""
import os, signal, sys, time
signal.signal(signal.SIGCONT, lambda *_: os.write(1, b"RESUMED\n"))
signal.signal(signal.SIGWINCH, lambda *_: os.write(1, b"SIZE %d %d\n" % tuple(os.get_terminal_size(0))))
print("STAR" + "TED", os.ttyname(0), flush=True)
if "read" in sys.argv:
    print("GO" + "T", input(), flush=True)
while True:
    time.sleep(0.05)  # Python runs a handler between two calls: one that never returns could miss it
"""

# Types a command into the terminal it runs on.
PUSH = r"""
import fcntl
for each in b"echo PWNED\n":
    fcntl.ioctl(0, 0x5412, bytes([each]))
"""


@pytest.fixture
def screen(person: Person) -> Iterator[Screen]:
    with shell({**person.environment, "PROGRAM": PROGRAM, "PUSH": PUSH}, person.prefix) as found:
        yield found


def line(person: Person, command: str) -> str:
    """What to type to run `command`, in the shell's words. The shell is the person already: no prefix."""
    bare = Person(person.name, (), person.environment, person.home, person.uid)
    return f"{shlex.join(bare.command('run', '-q', '--upstream', 'block', '--'))} {command}\n"


@pytest.fixture
def start(screen: Screen, person: Person) -> Callable[[str], None]:
    """Type the line that runs PROGRAM, with its arguments and whatever else the shell is to do."""
    return lambda rest="": screen.type(line(person, f'python3 -c "$PROGRAM" {rest}'))


def test_the_program_has_a_terminal_of_the_sandbox_not_the_callers(
    screen: Screen, start: Callable[..., None]
) -> None:
    start()
    screen.see("STARTED /dev/pts/0")
    screen.type("\x03")
    screen.see(PROMPT)


def test_what_is_typed_reaches_the_program_and_its_answer_the_screen(
    screen: Screen, start: Callable[..., None]
) -> None:
    start("read")
    screen.see("STARTED")
    screen.type("hello\n")
    screen.see("GOT hello")


def test_ctrl_c_ends_the_program_and_gives_130(screen: Screen, start: Callable[..., None]) -> None:
    start()
    screen.see("STARTED")
    screen.type("\x03")
    screen.see(PROMPT)
    screen.type('echo code""=$?\n')
    screen.see("code=130")


def test_ctrl_c_ends_the_loop_that_torbox_runs_in(screen: Screen, person: Person) -> None:
    command = line(person, "sh -c 'echo STAR''TED; exec sleep 1000'").strip()
    screen.type(f"for each in 1 2; do {command}; echo ro''und; done\n")
    screen.see("STARTED")
    screen.type("\x03")
    assert "round" not in screen.see(PROMPT)


def test_ctrl_c_ends_the_script_that_torbox_runs_in(screen: Screen, person: Person) -> None:
    command = line(person, "sh -c 'echo STAR''TED; exec sleep 1000'").strip()
    script = f"{command}; echo ro''und"
    screen.type(f"sh -c {shlex.quote(script)}\n")
    screen.see("STARTED")
    screen.type("\x03")
    said = screen.see(PROMPT)
    # Of root's script, a user's process can end nothing; who calls sudo in a script sees how sudo ended.
    assert ("round" in said) == ("SUDO_UID" in person.environment)
    screen.type("echo code''=$?\n")
    screen.see("code=0" if "SUDO_UID" in person.environment else "code=130")


def test_a_program_that_reads_ctrl_c_as_a_key_interrupts_no_script(screen: Screen, person: Person) -> None:
    """In a raw terminal it is a key like others; what the program does to itself is its own business."""
    program = (
        "import os, signal, tty; tty.setraw(0); print('STAR''TED', flush=True); os.read(0, 1);"
        " signal.signal(2, signal.SIG_DFL); os.kill(os.getpid(), 2)"
    )
    command = line(person, f"python3 -c {shlex.quote(program)}").strip()
    script = f"trap 'echo INTERRUPTED' INT; {command}; echo en''d"
    screen.type(f"bash -c {shlex.quote(script)}\n")
    screen.see("STARTED")
    screen.type("\x03")
    assert "INTERRUPTED" not in screen.see("end")


def test_when_the_program_has_ended_nothing_is_waited_for(person: Person) -> None:
    """The last of its output may be read a moment after its end; that took two seconds half of the time."""
    change = "import torbox.supervisor; torbox.supervisor._LAST_WAIT_S = 1000.0"
    command = person.altered(change, "run", "-q", "--upstream", "block", "--", "echo", "it ran")
    for _ in range(8):
        with Screen(command, person.environment) as screen:
            screen.see("it ran")
            assert screen.ended() == 0


def test_ctrl_z_stops_torbox_and_fg_resumes_the_program_once(
    screen: Screen, start: Callable[..., None]
) -> None:
    start()
    screen.see("STARTED")
    screen.type("\x1a")
    screen.see("Stopped")
    screen.see(PROMPT)
    screen.type("fg\n")
    screen.see("RESUMED")
    fcntl.ioctl(screen.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 88, 0, 0))
    assert "RESUMED" not in screen.see("SIZE 88 44")


def test_after_a_stop_the_callers_terminal_is_as_it_was(screen: Screen, start: Callable[..., None]) -> None:
    screen.type("stty -g\n")
    screen.see("\n")
    before = screen.see("\r\n")
    screen.see(PROMPT)
    start()
    screen.see("STARTED")
    screen.type("\x1a")
    screen.see("Stopped")
    screen.see(PROMPT)
    screen.type("stty -g\n")
    screen.see("\n")
    assert screen.see("\r\n") == before


def test_a_background_program_that_reads_is_stopped_until_fg(
    screen: Screen, start: Callable[..., None]
) -> None:
    start("read &")
    screen.see("STARTED")
    screen.see("Stopped")
    screen.type("fg\n")
    screen.see("RESUMED")
    screen.type("later\n")
    screen.see("GOT later")


def test_bg_lets_a_stopped_program_go_on_in_the_background(
    screen: Screen, start: Callable[..., None]
) -> None:
    start()
    screen.see("STARTED")
    screen.type("\x1a")
    screen.see("Stopped")
    screen.see(PROMPT)
    screen.type("bg\n")
    screen.see("RESUMED")
    screen.type("jobs\n")
    screen.see("Running")


def test_in_a_pipeline_keys_are_left_to_others_until_the_program_reads(
    screen: Screen, start: Callable[..., None]
) -> None:
    start("| (read WORD </dev/tty; echo GOT $WORD)")
    screen.type("mine\n")
    screen.see("GOT mine")


def test_in_a_pipeline_the_program_gets_keys_when_it_reads(
    screen: Screen, start: Callable[..., None]
) -> None:
    start("read | cat")
    screen.see("STARTED")
    screen.type("piped\n")
    screen.see("GOT piped")
    screen.type("\x03")
    screen.see(PROMPT)


def test_ctrl_z_stops_a_whole_pipeline(screen: Screen, start: Callable[..., None]) -> None:
    start("| cat")
    screen.see("STARTED")
    screen.type("\x1a")
    screen.see("Stopped")
    screen.see(PROMPT)
    screen.type("fg\n")
    screen.see("RESUMED")
    screen.type("\x03")
    screen.see(PROMPT)


def test_a_change_of_window_size_arrives(screen: Screen, start: Callable[..., None]) -> None:
    start()
    screen.see("STARTED")
    fcntl.ioctl(screen.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    screen.see("SIZE 99 33")


def test_what_is_typed_after_a_change_of_window_size_does_not_overtake_it(
    screen: Screen, person: Person
) -> None:
    script = "while read -r key; do stty size; done"
    screen.type(line(person, f"sh -c '{script}'"))
    screen.type("\n")
    screen.see("\r\n0 0\r\n")
    for rows in range(30, 60):
        fcntl.ioctl(screen.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 90, 0, 0))
        screen.type("\n")
        screen.see(f"\r\n{rows} 90\r\n")
    screen.type("\x04")
    screen.see(PROMPT)


def test_a_shell_inside_has_job_control_of_its_own(screen: Screen, person: Person) -> None:
    screen.type(line(person, "env 'PS1=inside> ' bash --norc --noediting -i"))
    screen.see("inside> ")
    screen.type('echo GO""T; cat\n')
    screen.see("GOT\r\n")
    screen.type("x\n")
    screen.see("x\r\nx\r\n")
    screen.type("\x1a")
    screen.see("Stopped")
    screen.see("inside> ")
    screen.type("fg\n")
    screen.see("cat\r\n")
    screen.type("y\n")
    screen.see("y\r\ny\r\n")
    screen.type("\x03")
    screen.see("inside> ")
    screen.type("exit\n")
    screen.see(PROMPT)


def test_tiocsti_into_the_callers_terminal_does_nothing(screen: Screen, person: Person) -> None:
    screen.type(line(person, "python3 -c \"$PUSH\"; echo do''ne"))
    assert "PermissionError" in screen.see("done")
    screen.see(PROMPT)
    screen.type("echo en''d\n")
    assert "PWNED" not in screen.see("end")


def test_torbox_shell_is_a_shell_of_the_sandboxs_user_and_gives_its_exit_code(
    screen: Screen, person: Person
) -> None:
    bare = Person(person.name, (), person.environment, person.home, person.uid)
    screen.type(f"{shlex.join(bare.command('shell', '--upstream', 'block'))}\n")
    screen.see("user@host:~$")
    screen.type("tty; id -un; echo $PWD-end\n")
    screen.see("/dev/pts/0")
    screen.see("/home/user-end")
    screen.type("exit 5\n")
    screen.see(PROMPT)
    screen.type('echo code""=$?\n')
    screen.see("code=5")


def test_a_terminal_that_takes_nothing_holds_up_the_output_and_nothing_else(
    screen: Screen, person: Person
) -> None:
    """As after ^S, or where the connection to the terminal hangs."""
    screen.type(line(person, 'sh -c \'trap "exit 7" TERM; yes & wait\'; echo code""=$?'))
    screen.see("y\r\ny\r\n")
    torbox = {pid for pid in descendants(screen.pid) if is_torbox(pid)}
    supervisor = max(torbox, key=lambda pid: len(descendants(pid)))  # its child leaves signals to it
    os.kill(supervisor, signal.SIGTERM)
    wait_until_gone(torbox)
    screen.see("code=7")


def is_torbox(pid: int) -> bool:
    """Of those whose arguments still show."""
    return b"torbox" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def test_output_waits_for_a_terminal_that_takes_its_time_and_none_is_lost(
    screen: Screen, person: Person
) -> None:
    count = 100_000  # lines, many times what terminals hold
    screen.type(line(person, f'seq {count}; echo code""=$?'))
    first = screen.see("\r\n3\r\n")
    wait_until_stopped_writing(screen)
    assert first.endswith("1\r\n2")
    shown = screen.see("code=0", timeout_s=60)
    assert shown.split() == [str(number) for number in range(4, count + 1)]


def wait_until_stopped_writing(screen: Screen) -> None:
    """Until the terminal is full: what can be read of it no longer grows."""
    before = -1
    while (now := waiting_bytes(screen)) != before:
        before = now
        select.select([], [], [], 0.3)


def waiting_bytes(screen: Screen) -> int:
    return int.from_bytes(fcntl.ioctl(screen.descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)
