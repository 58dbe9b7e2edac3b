# SPDX-License-Identifier: GPL-3.0-or-later
"""The stack's process as a sandbox has it, taken over: what code that runs in it once it serves can do."""

from __future__ import annotations

import os
import select
import subprocess

import pytest

from tests.support.confined import taken_over
from tests.support.directories import open_directory
from tests.support.patience import PATIENCE_S
from tests.support.people import Person
from tests.upstream.socks_server import TorLike, serving
from torbox import landlock

ATTEMPTS = """
    attempt("open", lambda: os.open("/etc/passwd", os.O_RDONLY))
    attempt("list", lambda: os.listdir("/"))
    attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    attempt("unix", lambda: socket.socket(socket.AF_UNIX))
    attempt("proxy", lambda: connect(PORT))
    attempt("other", lambda: connect(OTHER))
    attempt("kill", lambda: os.kill(os.getppid(), 0))
"""


def run(person: Person, change: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        person.altered(change, "run", *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(person.environment),
        cwd="/",
    )


def test_a_taken_over_worker_reaches_the_proxy_and_nothing_else(person: Person) -> None:
    import socket

    with (
        open_directory() as directory,
        serving(TorLike()) as proxy,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        out = directory / "out"
        os.mkfifo(out)
        out.chmod(0o666)
        told = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
        change = taken_over(out, ATTEMPTS, PORT=proxy.port, OTHER=other.getsockname()[1])
        url = f"tor://127.0.0.1:{proxy.port}"
        running = subprocess.Popen(
            person.altered(change, "run", "--upstream", url, "--", "cat"),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(person.environment),
            cwd="/",
        )
        text = ""
        while "end\n" not in text:  # the worker seals itself while the program runs, which waits for us
            assert select.select([told], [], [], PATIENCE_S)[0], f"nothing but {text!r}"
            text += os.read(told, 4096).decode()
        os.close(told)
        _, errors = running.communicate("", timeout=PATIENCE_S)
        assert running.returncode == 0, errors
        said = dict(line.split(": ") for line in text.splitlines() if ": " in line)
    assert said == {
        "open": "EPERM",
        "list": "EPERM",
        "udp": "EPERM",
        "unix": "EAFNOSUPPORT",
        "proxy": "done",
        "other": "EACCES" if landlock.abi() >= landlock.NET_ABI else "done",
        "kill": "EPERM",
    }


@pytest.mark.parametrize("attack", ['os.execv("/bin/true", ["true"])', "os.fork()"])
def test_a_taken_over_worker_that_starts_anything_is_killed_and_the_sandbox_with_it(
    person: Person, attack: str
) -> None:
    with open_directory() as directory:
        out = directory / "out"
        out.touch()
        out.chmod(0o666)
        change = taken_over(out, f"    {attack}")
        done = run(person, change, "--upstream", "block", "--", "sleep", "20")
        assert done.returncode == 125
        assert "the network stack was killed by its own filter of system calls" in done.stderr
        assert out.read_text() == ""


def test_what_keeps_a_worker_from_being_sealed_is_said_though_the_program_runs_by_then(
    person: Person,
) -> None:
    change = (
        "from torbox import privileges\n"
        "def fault(): raise OSError(1, 'Operation not permitted', 'capabilities')\n"
        "privileges.drop_capabilities = fault"
    )
    done = run(person, change, "--upstream", "block", "--", "sleep", "20")
    assert done.returncode == 125
    assert "confine the network stack: capabilities: Operation not permitted" in done.stderr


def test_no_module_is_missing_once_the_worker_is_sealed(person: Person) -> None:
    """What is imported later would be imported by a process that can open no file."""
    script = (
        "import socket; socket.setdefaulttimeout(5)\n"
        "for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):\n"
        "    s = socket.socket(socket.AF_INET, kind); s.connect(('10.0.2.2', 53))\n"
        "    q = bytes.fromhex('000101000001000000000001') + b'\\7example\\3com\\0\\0\\1\\0\\1'"
        " + b'\\0\\0\\x29\\x10\\0\\0\\0\\0\\0\\0\\0'\n"
        "    s.send(q if kind is socket.SOCK_DGRAM else len(q).to_bytes(2, 'big') + q)\n"
        "    print(len(s.recv(512)) > 12)\n"
        "try: socket.create_connection(('192.175.48.1', 80))\n"
        "except OSError as error: print(error.errno is not None)\n"
    )
    done = person.run("run", "--upstream", "block", "--", "python3", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\nTrue\nTrue\n", "")
