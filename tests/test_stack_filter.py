# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter of the stack's own process, run by an interpreter of BPF; the kernel: test_confinement.py."""

from __future__ import annotations

import socket
from errno import EAFNOSUPPORT, ENOSYS, EPERM

import pytest

from tests.support.filters import HEADERS, kernels_numbers, run
from torbox import stack_filter
from torbox.bpf import ALLOW, ERRNO, KILL, MACHINES
from torbox.stack_filter import (
    FATAL,
    INSPECTED,
    INSPECTED_ELSE,
    INSPECTED_RESOLVING,
    LETTING_IN,
    PLAIN,
    RESOLVING,
    SIGNALLING,
    Reach,
)

TCP4 = Reach((socket.AF_INET,), port=9050)
TCP6 = Reach((socket.AF_INET6,), port=9050)
UNIX = Reach((socket.AF_UNIX,), paths=("/run/tor/socks",))
DIRECT = Reach((socket.AF_INET, socket.AF_INET6), resolves=True)
NOTHING = Reach()
DOORMAN = Reach((socket.AF_UNIX,), paths=("/tmp/.X11-unix/X0",), lets_in=True)
DENIED = ERRNO | EPERM
NO_FAMILY = ERRNO | EAFNOSUPPORT
PROXY = Reach((socket.AF_UNIX,), paths=("/run/user/1000/bus",), program=True, directory="/run/user/1000")
STREAM, DGRAM, RAW = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW
FLAGS = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
MPTCP, SCTP = 262, 132  # linux/in.h
FASTOPEN = 0x20000000  # MSG_FASTOPEN, linux/socket.h


class Filter:
    def __init__(self, machine: str) -> None:
        self.name = machine
        self.machine = MACHINES[machine]
        numbers = kernels_numbers(machine)
        if numbers is None:
            pytest.skip(f"the kernel's headers for {machine} are not installed")
        self.numbers = numbers

    def __call__(self, reach: Reach, call: str, *arguments: int) -> int:
        filter = stack_filter.program(self.name, reach)
        return run(filter, self.numbers[call], arguments, self.machine.audit_arch)


@pytest.fixture(params=sorted(MACHINES))
def filtered(request: pytest.FixtureRequest) -> Filter:
    return Filter(str(request.param))


@pytest.mark.parametrize("machine", sorted(HEADERS))
def test_the_numbers_are_the_kernels(machine: str) -> None:
    numbers = kernels_numbers(machine)
    if numbers is None:
        pytest.skip(f"the kernel's headers for {machine} are not installed")
    column = MACHINES[machine].column
    for name, columns in (PLAIN | RESOLVING | LETTING_IN | SIGNALLING | FATAL).items():
        # Calls newer than a distribution's headers are told by both machines' numbers being the same.
        assert columns[column] == numbers.get(name, columns[1] if columns[0] == columns[1] else None), name
    inspected = {columns[column] for columns, _ in (*INSPECTED, *INSPECTED_RESOLVING, *INSPECTED_ELSE)}
    names = {"socket", "sendto", "sendmsg", "sendmmsg", "setsockopt", "ioctl", "fcntl", "prlimit64", "clone"}
    names |= {"openat", "mmap", "mprotect"} | ({"open"} if machine == "x86_64" else set())
    assert inspected - {None} == {numbers[name] for name in names}
    assert stack_filter.CLONE3[column] == numbers["clone3"]


def test_other_machines_calls_kill(filtered: Filter) -> None:
    filter = stack_filter.program(filtered.name, TCP4)
    assert run(filter, filtered.numbers["read"], (), 0x40000003) == KILL  # AUDIT_ARCH_I386
    if filtered.machine.has_x32:
        assert run(filter, 0x40000000, (), filtered.machine.audit_arch) == KILL


@pytest.mark.parametrize("reach", [TCP4, UNIX, DIRECT, NOTHING, DOORMAN])
def test_what_only_an_attacker_calls_kills(filtered: Filter, reach: Reach) -> None:
    for name in FATAL:
        if name in filtered.numbers:
            assert filtered(reach, name) == KILL, name


def test_what_is_not_listed_is_refused(filtered: Filter) -> None:
    for reach in (TCP4, UNIX, DIRECT, NOTHING):
        for name in (
            "kill",
            "tgkill",
            "bind",
            "listen",
            "accept4",
            "prctl",
            "chmod",
            "unlinkat",
            "memfd_create",
        ):
            if name in filtered.numbers:
                assert filtered(reach, name) == DENIED, name
        assert filtered(reach, "clone3") == ERRNO | ENOSYS
    for name in ("openat", "newfstatat", "getdents64", "sendmmsg"):
        assert filtered(TCP4, name) == DENIED, name
        assert filtered(DOORMAN, name) == DENIED, name


def test_clients_are_let_in_by_the_doorman_alone_and_by_no_listener_that_he_makes(filtered: Filter) -> None:
    assert filtered(DOORMAN, "accept4") == ALLOW
    assert filtered(DOORMAN, "setsockopt", 3, socket.SOL_SOCKET, socket.SO_PASSCRED) == ALLOW
    assert filtered(UNIX, "setsockopt", 3, socket.SOL_SOCKET, socket.SO_PASSCRED) == DENIED
    for name in ("bind", "listen", "accept", "kill", "tgkill", "prctl", "memfd_create", "unlinkat"):
        assert filtered(DOORMAN, name) == DENIED, name


def test_a_program_that_is_not_torboxs_makes_no_other_and_signals_nobody(filtered: Filter) -> None:
    for name in FATAL:
        if name in filtered.numbers:
            assert filtered(PROXY, name) == (ALLOW if name == "execve" else KILL), name
    for name in SIGNALLING:
        assert filtered(PROXY, name) == DENIED, name
    assert filtered(PROXY, "clone", 0x3D0F00) == ALLOW  # libc's flags for a thread
    assert filtered(PROXY, "clone", 17) == KILL
    assert filtered(PROXY, "clone3") == ERRNO | ENOSYS
    for name in ("bind", "listen", "accept4", "openat", "eventfd2", "mprotect"):
        assert filtered(PROXY, name) == ALLOW, name


def test_the_list_stays_short(filtered: Filter) -> None:
    calls = sum(filtered(TCP4, name) == ALLOW for name in filtered.numbers)
    assert 40 < calls < 75


@pytest.mark.parametrize(
    ("reach", "family", "kind", "protocol", "wanted"),
    [
        (TCP4, socket.AF_INET, STREAM | FLAGS, 0, ALLOW),
        (TCP4, socket.AF_INET, STREAM, socket.IPPROTO_TCP, ALLOW),
        (TCP4, socket.AF_INET, STREAM, MPTCP, DENIED),
        (TCP4, socket.AF_INET, STREAM, SCTP, DENIED),
        (TCP4, socket.AF_INET, DGRAM, 0, DENIED),
        (TCP4, socket.AF_INET, DGRAM | FLAGS, socket.IPPROTO_UDP, DENIED),
        (TCP4, socket.AF_INET, RAW, 0, DENIED),
        (TCP4, socket.AF_INET6, STREAM, 0, NO_FAMILY),
        (TCP4, socket.AF_UNIX, STREAM, 0, NO_FAMILY),
        (TCP4, socket.AF_NETLINK, RAW, 0, NO_FAMILY),
        (TCP6, socket.AF_INET6, STREAM, 0, ALLOW),
        (TCP6, socket.AF_INET, STREAM, 0, NO_FAMILY),
        (UNIX, socket.AF_UNIX, STREAM | FLAGS, 0, ALLOW),
        (UNIX, socket.AF_UNIX, DGRAM, 0, DENIED),
        (UNIX, socket.AF_UNIX, STREAM, 1, DENIED),
        (UNIX, socket.AF_INET, STREAM, 0, NO_FAMILY),
        (DIRECT, socket.AF_INET, STREAM, 0, ALLOW),
        (DIRECT, socket.AF_INET6, DGRAM | FLAGS, socket.IPPROTO_UDP, ALLOW),
        (DIRECT, socket.AF_INET, RAW, socket.IPPROTO_UDP, DENIED),
        (DIRECT, socket.AF_INET, STREAM, MPTCP, DENIED),
        (DIRECT, socket.AF_NETLINK, RAW, 0, ALLOW),
        (DIRECT, socket.AF_NETLINK, RAW, 9, DENIED),  # NETLINK_AUDIT
        (DIRECT, socket.AF_UNIX, STREAM, 0, NO_FAMILY),
        (DIRECT, 40, STREAM, 0, NO_FAMILY),  # AF_VSOCK
        (DOORMAN, socket.AF_UNIX, STREAM | FLAGS, 0, ALLOW),
        (DOORMAN, socket.AF_UNIX, DGRAM, 0, DENIED),
        (DOORMAN, socket.AF_INET, STREAM, 0, NO_FAMILY),
        (PROXY, socket.AF_UNIX, STREAM | FLAGS, 0, ALLOW),
        (PROXY, socket.AF_INET6, STREAM, 0, NO_FAMILY),
        (PROXY, socket.AF_NETLINK, RAW, 0, NO_FAMILY),
        (NOTHING, socket.AF_INET, STREAM, 0, NO_FAMILY),
        (NOTHING, socket.AF_UNIX, STREAM, 0, NO_FAMILY),
    ],
)
def test_sockets_are_those_of_the_upstream(
    filtered: Filter, reach: Reach, family: int, kind: int, protocol: int, wanted: int
) -> None:
    assert filtered(reach, "socket", family, kind, protocol) == wanted
    assert filtered(reach, "socket", family | 1 << 32, kind | 1 << 33, protocol | 1 << 34) == wanted


def test_nothing_connects_by_sending(filtered: Filter) -> None:
    assert filtered(TCP4, "sendto", 3, 0, 0, 0) == ALLOW
    assert filtered(TCP4, "sendto", 3, 0, 0, FASTOPEN | socket.MSG_NOSIGNAL) == DENIED
    assert filtered(TCP4, "sendmsg", 3, 0, FASTOPEN) == DENIED
    assert filtered(DIRECT, "sendmmsg", 3, 0, 1, FASTOPEN) == DENIED
    assert filtered(DIRECT, "sendmmsg", 3, 0, 1, 0) == ALLOW
    assert filtered(TCP4, "setsockopt", 3, socket.IPPROTO_TCP, 30) == DENIED  # TCP_FASTOPEN_CONNECT


def test_options_are_those_that_the_stack_sets(filtered: Filter) -> None:
    assert filtered(TCP4, "setsockopt", 3, socket.IPPROTO_TCP, socket.TCP_NODELAY) == ALLOW
    assert filtered(TCP4, "setsockopt", 3, socket.SOL_SOCKET, socket.SO_LINGER) == ALLOW
    for option in (25, 26, 50):  # SO_BINDTODEVICE, SO_ATTACH_FILTER, SO_ATTACH_BPF
        assert filtered(DIRECT, "setsockopt", 3, socket.SOL_SOCKET, option) == DENIED
    assert filtered(TCP4, "setsockopt", 3, socket.IPPROTO_IP, 11) == DENIED
    assert filtered(DIRECT, "setsockopt", 3, socket.IPPROTO_IP, 11) == ALLOW  # IP_RECVERR


def test_threads_are_the_resolvers_alone_and_no_process_is_made(filtered: Filter) -> None:
    assert filtered(DIRECT, "clone", 0x3D0F00) == ALLOW  # libc's flags for a thread
    assert filtered(DIRECT, "clone", 17) == KILL
    assert filtered(TCP4, "clone", 0x3D0F00) == KILL


def test_files_are_read_by_the_resolver_alone(filtered: Filter) -> None:
    assert filtered(DIRECT, "openat", 0, 0, 0o2000000) == ALLOW
    for flags in (1, 2, 0o100, 0o1000, 0o2000):  # WRONLY, RDWR, CREAT, TRUNC, APPEND
        assert filtered(DIRECT, "openat", 0, 0, flags) == DENIED


def test_memory_does_not_become_executable(filtered: Filter) -> None:
    for call in ("mmap", "mprotect"):
        assert filtered(TCP4, call, 0, 4096, 3) == ALLOW
        assert filtered(TCP4, call, 0, 4096, 5) == DENIED
        assert filtered(DIRECT, call, 0, 4096, 5) == ALLOW


def test_descriptors_are_not_made_to_signal_and_the_tun_stays_as_it_is(filtered: Filter) -> None:
    assert filtered(TCP4, "fcntl", 3, 4) == ALLOW  # F_SETFL
    assert filtered(TCP4, "fcntl", 3, 8) == DENIED  # F_SETOWN
    assert filtered(TCP4, "ioctl", 3, 0x5421) == ALLOW  # FIONBIO
    for request in (0x400454CA, 0x5412, 0x8914):  # TUNSETIFF, TIOCSTI, SIOCSIFFLAGS
        assert filtered(TCP4, "ioctl", 3, request) == DENIED
    assert filtered(TCP4, "prlimit64", 0) == ALLOW
    assert filtered(TCP4, "prlimit64", 1234) == DENIED
