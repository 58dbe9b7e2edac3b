# SPDX-License-Identifier: GPL-3.0-or-later
"""The program's standard streams carry bytes and nothing else of the caller's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.directories import open_directory
from tests.support.patience import PATIENCE_S
from tests.support.people import Person
from torbox import streams
from torbox.errors import SetupError


def verdict(stdin: int) -> str:
    """What `open_streams` says in a process of which this is the standard input."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(stdin, 0)
        try:
            streams.open_streams()
            text = ""
        except SetupError as error:
            text = str(error)
        os.write(writable, text.encode())
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as file:
        text = file.read()
    os.waitpid(pid, 0)
    return text


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_network_socket_is_refused(family: int, kind: int) -> None:
    with socket.socket(family, kind) as way_out:
        assert "standard input is a network or unconnected socket" in verdict(way_out.fileno())


def test_a_network_socket_is_refused_also_if_it_is_connected() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as way_out,
    ):
        assert "standard input is a network or unconnected socket" in verdict(way_out.fileno())


def test_a_unix_socket_that_can_still_go_anywhere_is_refused() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unconnected:
        assert "unconnected socket" in verdict(unconnected.fileno())
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        assert "unconnected socket" in verdict(one.fileno())


@pytest.mark.parametrize("path", ["/", "/dev/net/tun", "/dev/fuse"])
def test_directories_and_devices_are_refused(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        assert path == "/dev/fuse"  # not every machine has one; the tun every machine of ours has
        return
    assert "through which the program could leave" in verdict(descriptor)
    os.close(descriptor)


def test_an_epoll_or_another_nameless_thing_is_refused() -> None:
    import select

    with select.epoll() as nameless:
        assert "through which the program could leave" in verdict(nameless.fileno())


def test_a_socket_of_packets_is_refused() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        assert "unconnected socket" in verdict(one.fileno())


def test_pipes_files_null_and_connected_pairs_are_what_programs_have() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    readable, writable = os.pipe()
    with one, other, open("/dev/null") as null, tempfile.TemporaryFile() as file:
        for stream in (one.fileno(), null.fileno(), readable, file.fileno()):
            assert verdict(stream) == ""
    os.close(readable)
    os.close(writable)


@pytest.fixture
def folder(person: Person) -> Iterator[Path]:
    with open_directory(0o777) as directory:
        yield directory


def shell(
    person: Person, folder: Path, script: str, timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a shell script in which `$RUN` runs a command in a sandbox, as the person."""
    bare = Person(person.name, (), person.environment, person.home, person.uid)
    run = " ".join(bare.command("run", "--upstream", "block", "--"))
    process = subprocess.Popen(
        [*person.prefix, "bash", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**person.environment, "RUN": run},
        cwd=folder,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # all that it has started, and with torbox what is inside
        process.communicate()
        raise
    return subprocess.CompletedProcess(script, process.returncode, output, errors)


def test_input_and_output_go_through_pipes_and_files(person: Person, folder: Path) -> None:
    done = shell(person, folder, "echo hello | $RUN cat | tr a-z A-Z; seq 100000 >f; $RUN wc -l <f >o; cat o")
    assert (done.stdout, done.stderr) == ("HELLO\n100000\n", "")


def test_every_byte_arrives_also_where_it_is_appended(person: Person, folder: Path) -> None:
    script = (
        "$RUN head -c 20000000 /dev/zero | wc -c; echo x >f; $RUN head -c 3000000 /dev/zero >>f; wc -c <f"
    )
    assert shell(person, folder, script).stdout.split() == ["20000000", "3000002"]


def test_output_and_errors_of_one_file_keep_their_order(person: Person, folder: Path) -> None:
    script = "$RUN sh -c 'for i in 1 2 3; do echo o$i; echo e$i >&2; done' >f 2>&1; cat f"
    assert shell(person, folder, script).stdout.split() == ["o1", "e1", "o2", "e2", "o3", "e3"]


def test_a_file_is_given_back_its_place_where_the_program_stopped(person: Person, folder: Path) -> None:
    # A program that reads byte by byte, as the shell's own `read` does.
    script = "seq 1000 >f; { $RUN sh -c 'read a; read b; echo $a $b'; head -n 1; } <f"
    assert shell(person, folder, script).stdout.splitlines() == ["1 2", "3"]


def test_a_reader_who_leaves_ends_the_program(person: Person, folder: Path) -> None:
    done = shell(person, folder, "$RUN yes | head -n 1; echo ${PIPESTATUS[0]}")
    assert done.stdout.split() == ["y", "141"]


def test_a_program_that_closes_its_output_lets_the_reader_go_on(person: Person, folder: Path) -> None:
    # The reader ends the program by the input it gives once it has seen the end of the output.
    script = "mkfifo p; $RUN sh -c 'echo x; exec >&-; read line; exit 0' <>p | (cat; echo end >p)"
    assert shell(person, folder, script, PATIENCE_S).stdout == "x\n"


@pytest.mark.parametrize("into", [">", ">>"])
def test_a_full_disk_is_told(person: Person, folder: Path, into: str) -> None:
    done = shell(person, folder, f"ulimit -f 8; $RUN head -c 1000000 /dev/zero {into}f; echo $?")
    assert done.stdout == "125\n"
    assert "torbox: pass on the output: standard output: File too large" in done.stderr


def test_the_last_words_for_a_full_disk_are_told(person: Person, folder: Path) -> None:
    """Nothing is left in the pipe by then."""
    for into in (">", ">>"):
        done = shell(person, folder, f"head -c 8192 /dev/zero >f; ulimit -f 8; $RUN echo x {into}f; echo $?")
        assert done.stdout == ("0\n" if into == ">" else "125\n"), done.stderr


@pytest.mark.parametrize("number", [1, 2])
def test_an_output_that_takes_nothing_is_told_if_there_was_something(
    person: Person, folder: Path, number: int
) -> None:
    for program, told in (("true", "0\n"), (f"sh -c 'echo x >&{number}'", "125\n")):
        done = shell(person, folder, f"touch f; {{ $RUN {program} {number}<f; }} 3>&1; echo $?")
        assert done.stdout == told, (done.stdout, done.stderr)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_streams_are_closed_inside_too(person: Person, folder: Path, closed: str) -> None:
    program = "cat; a=$?; echo out; b=$?; echo err >&2; exit $((a * 4 + b * 2 + $? + 100))"
    script = f"$RUN sh -c '{program}' {closed}; echo $?"
    inside, outside = (shell(person, folder, text) for text in (script, script.replace("$RUN", "")))
    assert (inside.stdout, inside.stderr) == (outside.stdout, outside.stderr)


def test_the_script_that_a_shell_reads_cannot_be_added_to(person: Person, folder: Path) -> None:
    attack = "$RUN sh -c 'echo \"echo OWNED\" >>/proc/self/fd/0' 2>/dev/null\necho done\n"
    (folder / "script").write_text(attack)
    (folder / "script").chmod(0o666)
    for script in ("bash <script", "cat script | bash"):
        assert "OWNED" not in shell(person, folder, script).stdout
    assert (folder / "script").read_text() == attack


def test_a_log_cannot_be_truncated_nor_read(person: Person, folder: Path) -> None:
    attack = ": >/proc/$$/fd/1; timeout 1 cat /proc/$$/fd/1 >&2"
    done = shell(person, folder, f"echo before >log; $RUN sh -c '{attack}' >>log; cat log")
    assert (done.stdout, done.stderr) == ("before\n", "")


def test_where_a_stream_leads_cannot_be_read(person: Person, folder: Path) -> None:
    script = "$RUN readlink /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 <f >o 2>e; cat o"
    done = shell(person, folder, f"touch f; {script}")
    assert [line.split(":")[0] for line in done.stdout.split()] == ["pipe", "pipe", "pipe"]


def test_a_tun_as_standard_input_starts_nothing(person: Person, folder: Path) -> None:
    done = shell(person, folder, "$RUN echo ran <>/dev/net/tun; echo $?")
    assert done.stdout == "125\n"
    assert "standard input is a device" in done.stderr


def test_a_unix_socket_is_relayed_and_tells_nothing_of_the_hosts_network(person: Person) -> None:
    # SIOCGIFNAME of interface 2 on standard input: on the socket itself it names an interface of the host.
    script = (
        "import fcntl, struct, sys\n"
        "try: fcntl.ioctl(0, 0x8910, struct.pack('16si20x', b'', 2)); print('KNOWN')\n"
        "except OSError: print('unknown')\n"
        "print(sys.stdin.readline().strip(), flush=True)\n"
    )
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                person.command("run", "--upstream", "block", "--", "python3", "-c", script),
                stdin=theirs,
                stdout=theirs,
                env=dict(person.environment),
                cwd="/",
            )
        ours.sendall(b"hello\n")
        received = b""
        while chunk := ours.recv(4096):
            received += chunk
        assert process.wait(timeout=30) == 0
    assert received.split() == [b"unknown", b"hello"]


def test_a_file_is_never_set_back_before_its_place(person: Person, folder: Path) -> None:
    # The program fills its own input, so that more seems to be unread than was ever passed on.
    attack = "import os; os.read(0, 4096); os.write(os.open('/proc/self/fd/0', os.O_WRONLY), b'z' * 60000)"
    (folder / "attack.py").write_text(attack)
    script = f'echo line1\n$RUN python3 -c "{attack}"\necho line2 $?\n'
    (folder / "script").write_text(script)
    (folder / "script").chmod(0o644)
    lines = shell(person, folder, "bash <script", PATIENCE_S).stdout.splitlines()
    assert lines.count("line1") == 1
    assert lines[-1] == "line2 0"


def test_input_that_cannot_be_sought_is_no_reason_to_fail(person: Person, folder: Path) -> None:
    assert shell(person, folder, "$RUN sh -c 'exit 3' </proc/self/ns/net; echo $?").stdout == "3\n"


def test_one_signal_ends_a_program_whose_output_nobody_reads(person: Person, folder: Path) -> None:
    done = shell(
        person, folder, "mkfifo p; sleep 1000 <>p & $RUN yes >p & sleep 2; kill $!; wait $!; echo $?; kill %1"
    )
    assert done.stdout == "143\n"
