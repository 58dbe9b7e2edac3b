# SPDX-License-Identifier: GPL-3.0-or-later
"""The payload's filter: run by an interpreter of BPF, then by the kernel on real children."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.filters import HEADERS, kernels_numbers, run
from torbox import seccomp
from torbox.bpf import ALLOW, ERRNO, MACHINES, X32
from torbox.errors import SetupError
from torbox.seccomp import DENIED, program

I386 = 0x40000003  # AUDIT_ARCH_I386
ARM = 0x40000028
MACHINE = os.uname().machine


@pytest.fixture(params=sorted(MACHINES))
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Filter:
    def __init__(self, machine: str) -> None:
        self.machine = MACHINES[machine]
        self.program = program(machine)

    def __call__(self, call: tuple[int | None, ...] | int, *arguments: int) -> int:
        number = call if isinstance(call, int) else call[self.machine.column]
        assert number is not None
        return run(self.program, number, arguments, self.machine.audit_arch)


@pytest.fixture
def filtered(machine: str) -> Filter:
    return Filter(machine)


# The list


@pytest.mark.parametrize("machine_name", sorted(HEADERS))
def test_the_numbers_are_the_kernels(machine_name: str) -> None:
    numbers = kernels_numbers(machine_name)
    if numbers is None:
        pytest.skip(f"the kernel's headers for {machine_name} are not installed")
    column = MACHINES[machine_name].column
    known = {name: entry[0] for name, entry in DENIED.items()}
    known |= {"socket": seccomp.SOCKET, "socketpair": seccomp.SOCKETPAIR, "ioctl": seccomp.IOCTL}
    known |= {"inotify_add_watch": seccomp.INOTIFY_ADD_WATCH, "fcntl": seccomp.FCNTL}
    known |= {"setrlimit": seccomp.SETRLIMIT, "prlimit64": seccomp.PRLIMIT64}
    for name, columns in known.items():
        # Calls newer than a distribution's headers are told by both machines' numbers being the same.
        assert columns[column] == numbers.get(name, columns[1] if columns[0] == columns[1] else None), name


# What has opened sandboxes before, or tells of the host: each was tried or is named by those who were bitten.
DANGEROUS = [
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "io_setup",
    "add_key",
    "request_key",
    "keyctl",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "open_by_handle_at",
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "syslog",
    "settimeofday",
    "adjtimex",
    "clock_settime",
    "clock_adjtime",
    "reboot",
    "swapon",
    "swapoff",
    "acct",
    "quotactl",
    "vhangup",
    "fanotify_init",
    "move_pages",
    "migrate_pages",
    "lookup_dcookie",
    "nfsservctl",
]
# What browsers' own sandboxes, debuggers and runtimes are made of.
NEEDED = [
    "clone",
    "clone3",
    "unshare",
    "setns",
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "ptrace",
    "seccomp",
    "prctl",
    "memfd_create",
    "inotify_init1",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "process_vm_readv",
    "pidfd_open",
    "membarrier",
    "personality",
]


def test_what_threats_name_is_denied(filtered: Filter, machine: str) -> None:
    numbers = kernels_numbers(machine)
    if numbers is None:
        pytest.skip(f"the kernel's headers for {machine} are not installed")
    for name in DANGEROUS:
        assert filtered(numbers[name]) in (ERRNO | errno.EPERM, ERRNO | errno.ENOSYS), name
    for name in NEEDED:
        assert filtered(numbers[name]) == ALLOW, name


def test_every_call_on_the_list_gets_its_errno(filtered: Filter) -> None:
    for name, (numbers, code) in DENIED.items():
        if numbers[filtered.machine.column] is not None:
            assert filtered(numbers) == ERRNO | code, name
            assert filtered(numbers, *[2**64 - 1] * 6) == ERRNO | code, name


def test_calls_of_another_interface_do_not_exist(filtered: Filter) -> None:
    for arch in (I386, ARM, 0, 0xC000003E ^ 1):
        for number in (0, 20, 41, 102, 359):
            assert run(filtered.program, number, (), arch) == ERRNO | errno.ENOSYS


def test_x32_does_not_exist_on_x86_64() -> None:
    filtered = Filter("x86_64")
    for number in (0, 41, 425, 512, 0x3FFFFFFE):
        assert filtered(X32 | number) == ERRNO | errno.ENOSYS
    assert filtered(0xFFFFFFFF) == ALLOW  # a tracer's "skip this call"


@pytest.mark.parametrize("rubbish", [0, 1 << 32, 0xFFFFFFFF << 32])
def test_sockets_are_of_four_families_whatever_is_in_the_high_word(filtered: Filter, rubbish: int) -> None:
    for family in range(64):
        expected = ALLOW if family in (1, 2, 10) else ERRNO | errno.EAFNOSUPPORT
        if family != seccomp.AF_NETLINK:
            assert filtered(seccomp.SOCKET, rubbish | family, 1, 0) == expected
        expected = ALLOW if family == 1 else ERRNO | errno.EAFNOSUPPORT
        assert filtered(seccomp.SOCKETPAIR, rubbish | family, 1, 0) == expected
    for protocol in range(32):
        expected = ALLOW if protocol == 0 else ERRNO | errno.EAFNOSUPPORT
        assert filtered(seccomp.SOCKET, rubbish | seccomp.AF_NETLINK, 3, rubbish | protocol) == expected


@pytest.mark.parametrize("rubbish", [0, 1 << 32, 0xFFFFFFFF << 32])
def test_nobody_types_into_a_terminal(filtered: Filter, rubbish: int) -> None:
    for request in (0x5412, 0x541C):
        assert filtered(seccomp.IOCTL, 0, rubbish | request, 1) == ERRNO | errno.EPERM
    for request in (0x5401, 0x5413, 0x5411, 0x541D, 0x541B):
        assert filtered(seccomp.IOCTL, 0x5412, rubbish | request, 0x5412) == ALLOW


@pytest.mark.parametrize("rubbish", [0, 1 << 32, 0xFFFFFFFF << 32])
def test_nobody_watches_what_others_open_and_read(filtered: Filter, rubbish: int) -> None:
    for telling in (0x1, 0x10, 0x20, 0xFFF):  # IN_ACCESS, IN_CLOSE_NOWRITE, IN_OPEN, all of them
        assert filtered(seccomp.INOTIFY_ADD_WATCH, 3, 0x7FFF0000, rubbish | telling) == ERRNO | errno.EPERM
    for harmless in (0x2, 0x4, 0x8, 0x1002FCE, 0x80000000 | 0x3C0):  # GLib's among them
        assert filtered(seccomp.INOTIFY_ADD_WATCH, 0x31, 0x31, rubbish | harmless) == ALLOW
    assert filtered(seccomp.FCNTL, 3, rubbish | 1026, 0x80000001) == ERRNO | errno.EPERM
    for command in (0, 1, 2, 3, 4, 1024, 1030, 1031, 1033):
        assert filtered(seccomp.FCNTL, 1026, rubbish | command, 1026) == ALLOW


def test_file_systems_do_not_tell_their_names(filtered: Filter) -> None:
    for request in (0x80111500, 0x80811501, 0x81009431, 0x8008662C, 0x8400941F):
        assert filtered(seccomp.IOCTL, 3, request, 0x7FFF0000) == ERRNO | errno.EPERM
        assert filtered(seccomp.IOCTL, 3, 1 << 32 | request, 0x7FFF0000) == ERRNO | errno.EPERM
    assert filtered(seccomp.IOCTL, 3, 0x80086601, 0x7FFF0000) == ALLOW  # FS_IOC_GETFLAGS


@pytest.mark.parametrize("rubbish", [0, 1 << 32, 0xFFFFFFFF << 32])
def test_nobody_makes_the_limit_of_core_dumps_another(filtered: Filter, rubbish: int) -> None:
    assert filtered(seccomp.SETRLIMIT, rubbish | 4, 0x7FFF0000) == ERRNO  # done, and is not
    assert filtered(seccomp.SETRLIMIT, rubbish | 7, 4) == ALLOW
    for new in (0x7FFF00000000, 0x7FFF0000, 1):
        assert filtered(seccomp.PRLIMIT64, 4, rubbish | 4, new, 0x7FFF0000) == ERRNO
        assert filtered(seccomp.PRLIMIT64, 4, rubbish | 7, new, 4) == ALLOW
    assert filtered(seccomp.PRLIMIT64, 0, rubbish | 4, 0, 0x7FFF0000) == ALLOW


def test_what_browsers_make_their_own_sandboxes_of_is_allowed() -> None:
    # clone, clone3, unshare, setns, mount, umount2, pivot_root, chroot, ptrace, prctl, seccomp, execve
    for number in (56, 435, 272, 308, 165, 166, 155, 161, 101, 157, 317, 59):
        assert Filter("x86_64")(number) == ALLOW
    for number in (220, 435, 97, 268, 40, 39, 41, 51, 117, 167, 277, 221):
        assert Filter("aarch64")(number) == ALLOW


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6))
def test_every_call_ends_in_one_of_five_answers(number: int, arguments: list[int]) -> None:
    answers = {ALLOW, ERRNO, *(ERRNO | code for code in (errno.EPERM, errno.ENOSYS, errno.EAFNOSUPPORT))}
    for name, machine in MACHINES.items():
        assert run(program(name), number, arguments, machine.audit_arch) in answers


def test_an_unknown_machine_is_told_and_gets_no_filter() -> None:
    with pytest.raises(SetupError, match="riscv64") as caught:
        program("riscv64")
    assert "aarch64" in caught.value.advice


# The kernel


CHILD = """
import ctypes, json, os, sys
from tests.support.filters import HEADERS, kernels_numbers, run
from torbox import seccomp
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *arguments):
    ctypes.set_errno(0)
    libc.syscall(ctypes.c_long(number), *map(ctypes.c_ulong, arguments))
    return ctypes.get_errno()
if sys.argv[1] == "filtered":
    libc.prctl(38, ctypes.c_ulong(1), *[ctypes.c_ulong(0)] * 3)  # PR_SET_NO_NEW_PRIVS
    seccomp.install()
"""


def child(code: str, *arguments: str, filtered: bool = True) -> Any:
    """What a child prints as JSON, run with the filter on or off."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD + code, "filtered" if filtered else "free", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode}\n{done.stderr}"
    return json.loads(done.stdout)


def number_of(numbers: tuple[int | None, ...]) -> int | None:
    return numbers[MACHINES[MACHINE].column]


def test_the_kernel_denies_every_call_on_the_list() -> None:
    # All arguments 0: none of these calls does anything then, should it get through.
    calls = {name: number_of(entry[0]) for name, entry in DENIED.items()}
    calls = {name: number for name, number in calls.items() if number is not None}
    code = "print(json.dumps({n: call(i, 0, 0, 0, 0, 0) for n, i in json.loads(sys.argv[2]).items()}))"
    seen = child(code, json.dumps(calls))
    assert seen == {name: DENIED[name][1] for name in calls}
    free = child(code, json.dumps(calls), filtered=False)
    for name in (
        "io_uring_enter",
        "add_key",
        "keyctl",
        "bpf",
        "adjtimex",
        "clock_adjtime",
        "perf_event_open",
    ):
        assert free[name] != seen[name] or free[name] == errno.EPERM, name  # the filter alone denies it
    assert free["keyctl"] != errno.EPERM


def test_the_kernel_denies_socket_families_and_lets_the_four_through() -> None:
    code = """
import socket
def attempt(*arguments):
    try:
        socket.socket(*arguments).close()
    except OSError as error:
        return error.errno
    return 0
families = {f: attempt(f, 1, 0) for f in (1, 2, 10)}
families |= {f: attempt(f, 3, 0) for f in (17, 29, 30, 31, 38, 40, 44)}
netlink = [attempt(16, 3, p) for p in range(23)]
high = call(int(sys.argv[2]), 40 | 1 << 32, 1, 0)
print(json.dumps({"families": families, "netlink": netlink, "high": high}))
"""
    seen = child(code, str(number_of(seccomp.SOCKET)))
    denied = errno.EAFNOSUPPORT
    assert seen["families"] == {
        **dict.fromkeys(("1", "2", "10"), 0),
        **dict.fromkeys(("17", "29", "30", "31", "38", "40", "44"), denied),
    }
    assert seen["netlink"] == [0] + [denied] * 22
    assert seen["high"] == denied


def test_the_kernel_denies_typing_into_a_terminal_of_ones_own() -> None:
    code = """
import pty, fcntl, termios
master, slave = pty.openpty()
byte = ctypes.create_string_buffer(b"x")
ioctl = int(sys.argv[2])
sti = [call(ioctl, slave, 0x5412 | high, ctypes.addressof(byte)) for high in (0, 1 << 32)]
linux = call(ioctl, slave, 0x541C, ctypes.addressof(byte))
size = len(fcntl.ioctl(slave, termios.TIOCGWINSZ, bytes(8)))
print(json.dumps({"sti": sti, "linux": linux, "size": size}))
"""
    number = str(number_of(seccomp.IOCTL))
    assert child(code, number) == {"sti": [errno.EPERM] * 2, "linux": errno.EPERM, "size": 8}
    assert child(code, number, filtered=False)["linux"] == errno.ENOTTY


INT_0X80 = """
import mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex("b814000000" "cd80" "c3"))  # mov eax, 20 (getpid); int 0x80; ret
getpid = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
print(json.dumps(getpid() == os.getpid() or getpid()), flush=True)
os._exit(0)
"""


@pytest.mark.skipif(MACHINE != "x86_64", reason="int 0x80 is x86's")
def test_the_kernel_denies_the_32_bit_interface() -> None:
    try:
        works = child(INT_0X80, filtered=False)
    except AssertionError:
        pytest.skip("this kernel has no 32-bit interface (CONFIG_IA32_EMULATION)")
    assert works is True
    assert child(INT_0X80) == -errno.ENOSYS


@pytest.mark.skipif(MACHINE != "x86_64", reason="x32 is x86's")
def test_the_kernel_denies_the_x32_interface() -> None:
    assert (
        child("print(json.dumps([call(0x40000000 | 39), call(0x40000000 | 41, 40, 1, 0)]))")
        == [errno.ENOSYS] * 2
    )


def test_threads_processes_programs_and_nested_namespaces_work_under_the_filter() -> None:
    code = """
import subprocess, threading
ran = []
thread = threading.Thread(target=lambda: ran.append("thread"))
thread.start()
thread.join()
ran.append(subprocess.run(["sh", "-c", "echo program | cat"], capture_output=True, text=True).stdout.strip())
ran.append(subprocess.run(["unshare", "--user", "--net", "--mount", "--pid", "--fork", "echo", "namespaces"],
    capture_output=True, text=True).stdout.strip())
ran.append([line.split()[1] for line in open("/proc/self/status") if line.startswith("Seccomp:")][0])
print(json.dumps(ran))
"""
    assert child(code) == ["thread", "program", "namespaces", "2"]


def test_the_filter_is_inherited_by_what_is_executed() -> None:
    inner = "import socket\ntry:\n socket.socket(40, 1)\nexcept OSError as e:\n print(e.errno)"
    code = f"""
import subprocess
done = subprocess.run([sys.executable, "-c", {inner!r}], capture_output=True, text=True)
print(json.dumps(done.stdout.strip()))
"""
    assert child(code) == str(errno.EAFNOSUPPORT)


def test_a_filter_that_the_kernel_does_not_take_is_an_error_with_its_step() -> None:
    code = """
from torbox.errors import SetupError
if os.geteuid() == 0:  # root may install filters without no_new_privs
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
try:
    seccomp.install()
except SetupError as error:
    print(json.dumps([error.step, error.errno, bool(error.advice)]))
"""
    assert child(code, filtered=False) == ["system call filter", errno.EACCES, True]
