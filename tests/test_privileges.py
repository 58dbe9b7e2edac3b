# SPDX-License-Identifier: GPL-3.0-or-later
"""What is given up is gone, and what was not is noticed; in children with a user namespace of their own."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable

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
        (prctl, "capbset_drop", "CapBnd not empty"),
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
        monkeypatch.setattr(resource, "getrlimit", lambda _which: (1, 1))
    assert wanted in in_child(gone)


def test_capabilities_that_stay_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Kept:
        def limit(self) -> None:
            pass

    monkeypatch.setattr(prctl, "cap_permitted", Kept())
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
