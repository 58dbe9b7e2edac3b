# SPDX-License-Identifier: GPL-3.0-or-later
"""What is given up is gone, and what was not is noticed; in children with a user namespace of their own."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import prctl
import pytest

from tests.support.people import Person
from torbox import privileges, syscalls
from torbox.errors import SetupError


def in_child(job: Callable[[], str]) -> str:
    """What `job` says in a process that has all capabilities in a new user namespace."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.geteuid() == 0:
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            text = job()
        except SetupError as error:
            text = str(error)
        os.write(writable, text.encode())
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as file:
        text = file.read()
    os.waitpid(pid, 0)
    return text


def gone() -> str:
    privileges.give_up()
    return "gone"


def test_everything_is_given_up() -> None:
    assert in_child(gone) == "gone"


@pytest.mark.parametrize(
    ("module", "name", "wanted"),
    [
        (syscalls, "empty_bounding_set", "CapBnd not empty"),
        (prctl, "set_no_new_privs", "no_new_privs is not set"),
        (resource, "setrlimit", "core dumps are not limited"),
    ],
)
def test_what_the_kernel_did_not_do_is_noticed(
    module: object, name: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
    monkeypatch.setattr(module, name, lambda *_: None)
    if name == "setrlimit":
        monkeypatch.setattr(resource, "getrlimit", lambda _which: (2, 2))
    assert wanted in in_child(gone)


def test_user_0_of_the_namespace_is_nobody_special_for_good() -> None:
    def job() -> str:
        privileges.give_up()
        try:
            syscalls.set_securebits(0)
        except PermissionError:
            return bin(syscalls.securebits())
        return "unlocked"

    assert in_child(job) == "0b11001111"


def test_securebits_that_are_not_set_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "set_securebits", lambda _bits: None)
    assert "securebits are not what they were set to" in in_child(gone)


def test_the_program_has_no_core_dumps_and_no_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most machines' limits are 0 before, so it is the calls that are looked at."""
    calls: list[tuple[int, tuple[int, int]]] = []
    real = resource.setrlimit

    def setrlimit(which: int, limits: tuple[int, int]) -> None:
        calls.append((which, limits))
        real(which, limits)

    monkeypatch.setattr(resource, "setrlimit", setrlimit)

    def job() -> str:
        privileges.give_up()
        return str(sorted(calls))

    most = min(
        1, resource.getrlimit(resource.RLIMIT_CORE)[1] % 2**64
    )  # a byte is no dump, and is not passed on
    wanted = {resource.RLIMIT_CORE: most, resource.RLIMIT_RTPRIO: 0, resource.RLIMIT_NICE: 0}
    assert in_child(job) == str(sorted((which, (limit, limit)) for which, limit in wanted.items()))


def test_the_ambient_set_stays_empty() -> None:
    def job() -> str:
        import ctypes

        privileges.give_up()
        return str(ctypes.CDLL(None).prctl(47, 2, 0, 0, 0))  # PR_CAP_AMBIENT_RAISE, CAP_CHOWN

    assert in_child(job) == "-1"


def test_the_supervisor_cannot_be_traced_and_gains_nothing(person: Person) -> None:
    command = person.command("run", "-q", "--upstream", "block", "--", "sh", "-c", "echo UP; read line")
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(person.environment),
        cwd="/",
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "UP\n"
        status = Path(f"/proc/{process.pid}/status").read_text()
        owner = os.stat(f"/proc/{process.pid}/environ").st_uid
        process.stdin.close()
    assert "NoNewPrivs:\t1" in status
    assert owner == 0, "an undumpable process's files are root's (proc(5))"


def test_capabilities_that_stay_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "empty_capabilities", lambda: None)
    assert "CapPrm" in in_child(gone)


def test_the_session_keyring_is_a_new_one() -> None:
    def serial() -> str:
        import ctypes

        number = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
        return str(ctypes.CDLL(None).syscall(number, 0, -3, 0))  # KEYCTL_GET_KEYRING_ID, session

    def both() -> str:
        before = serial()
        privileges.give_up()
        return f"{before} {serial()}"

    before, after = in_child(both).split()
    assert before != after
    assert int(after) > 0


def test_the_process_dies_with_its_parent_and_at_once_if_that_is_gone() -> None:
    pid = os.fork()
    if pid == 0:
        privileges.die_with_parent(parent=1 if os.getppid() != 1 else 2)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 9


def test_the_programs_own_proc_shows_neither_arguments_nor_name_of_torbox(person: Person) -> None:
    done = person.run(
        "run", "--upstream", "block", "sh", "-c", "cat /proc/1/comm; tr '\\0' ' ' </proc/1/cmdline"
    )
    assert done.stdout.split() == ["init", "init"]
