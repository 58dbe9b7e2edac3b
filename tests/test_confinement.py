# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stack that has been taken over can still do: each layer by itself, the others switched off."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.confined import NOBODY, confined, world_readable_file
from tests.support.directories import open_directory
from torbox import landlock, privileges, stack_filter, syscalls
from torbox.allowance import NOTHING, Allowance
from torbox.confinement import Confinement, socket_inside
from torbox.errors import SetupError
from torbox.stack_filter import Reach

TCP = Reach((socket.AF_INET,), port=9)
DIRECT = Reach((socket.AF_INET, socket.AF_INET6), resolves=True)
NOWHERE = Reach()
DOORMAN = Reach((socket.AF_UNIX,), paths=("/dev/null",), lets_in=True)


@pytest.fixture
def no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_filter, "install", lambda *_: None)


@pytest.fixture
def no_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "restrict", lambda *_, **__: None)


@pytest.fixture
def no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Confinement, "_enter_root", lambda _self: None)


@pytest.fixture
def secret() -> Iterator[str]:
    path = world_readable_file()
    yield path
    os.unlink(path)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def open_file(path: str, flags: int = os.O_RDONLY) -> Callable[[], str]:
    return lambda: str(os.open(path, flags) >= 0)


def connect(port: int) -> Callable[[], str]:
    def job() -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            return errno.errorcode.get(sock.connect_ex(("127.0.0.1", port)), "connected")

    return job


def make_socket(family: int, kind: int, protocol: int = 0) -> Callable[[], object]:
    return lambda: socket.socket(family, kind, protocol).fileno() >= 0


# All layers


@pytest.mark.parametrize("reach", [NOWHERE, TCP, DIRECT, DOORMAN])
def test_a_file_that_everybody_may_read_cannot_be_opened(reach: Reach, secret: str) -> None:
    assert confined(reach, open_file(secret)) in ("EPERM", "ENOENT")
    assert confined(reach, open_file(secret, os.O_WRONLY)) == "EPERM"


def call(number: int, *arguments: int) -> Callable[[], int]:
    libc = ctypes.CDLL(None)
    return lambda: libc.syscall(number, *arguments)


FATAL: dict[str, Callable[[], object]] = {
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "fork": os.fork,
    "ptrace": call({"x86_64": 101, "aarch64": 117}[os.uname().machine], 0),
    "user namespace": lambda: syscalls.unshare(syscalls.CLONE_NEWUSER),
    "mount": lambda: syscalls.mount("none", "/", None, syscalls.MS_RDONLY | syscalls.MS_REMOUNT),
    "io_uring": call(425, 1, 0),
}


@pytest.mark.parametrize("reach", [NOWHERE, TCP, DIRECT, DOORMAN])
@pytest.mark.parametrize("name", FATAL)
def test_who_tries_what_no_stack_does_is_killed(reach: Reach, name: str) -> None:
    assert confined(reach, FATAL[name]) == "SIGSYS"


def test_the_upstream_is_reached_and_no_other_port(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    reach = Reach((socket.AF_INET,), port=port)
    assert confined(reach, connect(port)) == "connected"
    if landlock.abi() < landlock.NET_ABI:
        pytest.skip("this kernel's Landlock knows nothing of TCP")
    assert confined(Reach((socket.AF_INET,), port=9), connect(port)) == "EACCES"


def test_nothing_but_tcp_is_to_be_had_for_a_proxy() -> None:
    assert confined(TCP, make_socket(socket.AF_INET, socket.SOCK_STREAM)) == "True"
    assert confined(TCP, make_socket(socket.AF_INET, socket.SOCK_DGRAM)) == "EPERM"
    assert confined(TCP, make_socket(socket.AF_UNIX, socket.SOCK_STREAM)) == "EAFNOSUPPORT"
    assert confined(NOWHERE, make_socket(socket.AF_INET, socket.SOCK_STREAM)) == "EAFNOSUPPORT"


def test_the_doorman_has_unix_sockets_and_lets_nobody_in_but_by_the_listeners_he_has() -> None:
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, 40):  # AF_VSOCK
        assert confined(DOORMAN, make_socket(family, socket.SOCK_STREAM)) == "EAFNOSUPPORT"
    assert confined(DOORMAN, make_socket(socket.AF_UNIX, socket.SOCK_DGRAM)) == "EPERM"
    assert confined(DOORMAN, lambda: socket.socket(socket.AF_UNIX).bind("\0name")) == "EPERM"
    assert confined(DOORMAN, lambda: socket.socket(socket.AF_UNIX).listen()) == "EPERM"


def test_the_doorman_lets_in_and_passes_descriptors_and_credentials_on() -> None:
    with closing(socket.socket(socket.AF_UNIX)) as listener, closing(socket.socket(socket.AF_UNIX)) as end:
        name = f"\0torbox-test-{os.getpid()}"
        listener.bind(name)
        listener.listen()
        end.connect(name)

        def job() -> object:
            client, _ = listener.accept()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            client.setblocking(False)
            socket.send_fds(client, [b"here"], [client.fileno()])
            return client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[4:8]

        # Root, and whoever else has no place in the map of a user namespace, is nobody.
        uid = os.geteuid() or NOBODY
        assert confined(DOORMAN, job) == repr(uid.to_bytes(4, "little"))
        _, passed, _, _ = socket.recv_fds(end, 4, 4)
        assert len(passed) == 1
        os.close(passed[0])


def test_no_data_goes_out_before_the_port_is_judged(listener: socket.socket) -> None:
    def job() -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            return str(sock.sendto(b"x", 0x20000000, listener.getsockname()))  # MSG_FASTOPEN

    assert confined(TCP, job) == "EPERM"


def test_nobody_is_signalled() -> None:
    assert confined(TCP, lambda: os.kill(os.getppid(), 0)) == "EPERM"


# The root


def test_the_root_is_empty_and_cannot_be_written(no_filter: None, no_landlock: None, secret: str) -> None:
    assert confined(TCP, lambda: os.listdir("/")) == "[]"
    assert confined(TCP, open_file(secret)) == "ENOENT"
    assert confined(TCP, open_file("/new", os.O_CREAT | os.O_WRONLY)) == "EROFS"


def test_the_root_of_direct_has_what_the_resolver_reads(no_filter: None, no_landlock: None) -> None:
    names = confined(DIRECT, lambda: sorted(os.listdir("/")))
    assert "'etc'" in names
    assert "'usr'" in names
    assert not any(f"'{name}'" in names for name in ("home", "var", "tmp", "proc", "root", "dev"))
    assert confined(DIRECT, open_file("/etc/new", os.O_CREAT | os.O_WRONLY)) in ("EROFS", "EACCES")


def test_the_resolver_works_in_a_thread_of_its_own() -> None:
    def job() -> object:
        found: list[object] = []
        thread = threading.Thread(
            target=lambda: found.append(socket.getaddrinfo(b"localhost", None, socket.AF_INET)[0][4][0])
        )
        thread.start()
        thread.join()
        return found

    assert confined(DIRECT, job) == "['127.0.0.1']"


def test_a_unix_upstream_is_the_one_thing_in_its_root(no_filter: None, no_landlock: None) -> None:
    path = f"/var/tmp/torbox-test-{os.getpid()}"
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(path)
        try:
            os.chmod(path, 0o666)
            server.listen()
            reach = Reach((socket.AF_UNIX,), paths=(path,))

            def job() -> str:
                results = [
                    socket.socket(socket.AF_UNIX).connect_ex(each) for each in (socket_inside(0), path)
                ]
                return f"{os.listdir('/')} {results}"

            assert confined(reach, job) == f"['socket0'] [0, {errno.ENOENT}]"
        finally:
            os.unlink(path)


def test_a_group_of_the_users_opens_the_way_to_a_unix_upstream() -> None:
    """As on Debian, where Tor's socket and its directory are for the group debian-tor."""
    if os.geteuid():
        pytest.skip("needs root: a process is in a group of its own, and a socket is that group's")
    group = 54321
    with open_directory() as directory, closing(socket.socket(socket.AF_UNIX)) as server:
        place = directory / "tor"
        place.mkdir()
        os.chown(place, 0, group)
        place.chmod(0o750)
        path = str(place / "socks")
        server.bind(path)
        os.chown(path, 0, group)
        os.chmod(path, 0o660)
        server.listen()
        reach = Reach((socket.AF_UNIX,), paths=(path,))

        def job() -> object:
            return socket.socket(socket.AF_UNIX).connect(socket_inside(0))

        assert confined(reach, job, groups=(group,)) == "None"
        assert "Permission denied" in confined(reach, job)


@pytest.mark.parametrize("reach", [NOWHERE, DOORMAN])
def test_who_needs_no_network_has_none(no_filter: None, no_landlock: None, reach: Reach) -> None:
    assert confined(reach, socket.if_nameindex) == "[(1, 'lo')]"


def test_no_capability_is_left(no_filter: None, no_landlock: None, no_root: None) -> None:
    wanted = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"}

    def job() -> str:
        lines = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())
        return " ".join(str(int(lines[name], 16)) for name in sorted(wanted))

    assert confined(TCP, job) == "0 0 0 0 0 1"


def test_a_namespace_of_its_own_keeps_it_from_tracing(
    no_filter: None, no_landlock: None, no_root: None
) -> None:
    inside = confined(TCP, lambda: os.readlink("/proc/self/ns/user"))
    assert inside.startswith("user:[")
    assert inside != os.readlink("/proc/self/ns/user")


# A program that is not torbox's


@pytest.fixture
def proxy() -> Iterator[Reach]:
    with open_directory() as directory:
        directory.chmod(0o777)
        yield Reach((socket.AF_UNIX,), paths=("/dev/null",), program=True, directory=str(directory))


def make_socket_at(path: str) -> Callable[[], object]:
    return lambda: socket.socket(socket.AF_UNIX).bind(path)


def test_a_program_has_libraries_its_sockets_and_no_file_of_the_users(proxy: Reach, secret: str) -> None:
    names = confined(proxy, lambda: sorted(os.listdir("/")))
    assert "'sockets'" in names
    assert "'usr'" in names
    assert not any(f"'{name}'" in names for name in ("home", "var", "tmp", "proc", "root", "dev", "run"))
    assert confined(proxy, open_file(secret)) == "ENOENT"
    assert confined(proxy, open_file("/usr/new", os.O_CREAT | os.O_WRONLY)) in ("EROFS", "EACCES")
    assert confined(proxy, make_socket_at("/sockets/bus")) == "None"
    assert os.listdir(proxy.directory) == ["bus"]


def test_a_program_makes_no_other_no_inet_socket_and_signals_nobody(proxy: Reach) -> None:
    assert confined(proxy, make_socket(socket.AF_INET, socket.SOCK_STREAM)) == "EAFNOSUPPORT"
    assert confined(proxy, lambda: os.kill(os.getppid(), 0)) == "EPERM"
    for name in ("fork", "ptrace", "user namespace", "mount", "io_uring"):
        assert confined(proxy, FATAL[name]) == "SIGSYS", name


def test_a_program_is_in_a_network_of_its_own(no_filter: None, no_landlock: None, proxy: Reach) -> None:
    assert confined(proxy, socket.if_nameindex) == "[(1, 'lo')]"


def test_landlock_lets_a_program_make_sockets_and_no_files(
    no_filter: None, no_root: None, proxy: Reach
) -> None:
    needs_abi(landlock.FS_ABI)
    # The root is not entered here, so where it would be is where things are.
    there = proxy._replace(directory="")
    assert confined(there, open_file(f"{proxy.directory}/new", os.O_CREAT | os.O_WRONLY)) == "EACCES"
    assert confined(there, make_socket_at(f"{proxy.directory}/new")) == "EACCES"


# Landlock


def needs_abi(version: int) -> None:
    if landlock.abi() < version:
        pytest.skip(f"this kernel's Landlock is {landlock.abi()}, not {version}")


def test_landlock_alone_keeps_files_closed(no_filter: None, no_root: None, secret: str) -> None:
    needs_abi(landlock.FS_ABI)
    assert confined(TCP, open_file(secret)) == "EACCES"
    assert confined(DIRECT, open_file("/etc/hosts")) == "True"
    assert confined(DIRECT, open_file(secret, os.O_WRONLY)) == "EACCES"


def test_landlock_alone_keeps_tcp_to_one_port(
    no_filter: None, no_root: None, listener: socket.socket
) -> None:
    needs_abi(landlock.NET_ABI)
    port = listener.getsockname()[1]
    assert confined(Reach((socket.AF_INET,), port=port), connect(port)) == "connected"
    assert confined(TCP, connect(port)) == "EACCES"
    assert confined(DIRECT, connect(port)) == "connected"

    def bind() -> object:
        return socket.socket(socket.AF_INET).bind(("127.0.0.1", 0))

    assert confined(DIRECT, bind) == "EACCES"


def test_landlock_alone_keeps_abstract_sockets_and_signals_away(no_filter: None, no_root: None) -> None:
    needs_abi(landlock.SCOPE_ABI)
    name = f"\0torbox-test-{os.getpid()}"
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(name)
        server.listen()
        assert confined(TCP, lambda: socket.socket(socket.AF_UNIX).connect(name)) == "EPERM"
    assert confined(TCP, lambda: os.kill(os.getppid(), 0)) == "EPERM"


def test_an_abstract_server_is_the_one_reason_to_stay_in_the_network_and_to_reach_such_names(
    no_filter: None, no_root: None
) -> None:
    name = f"torbox-test-{os.getpid()}"
    reach = Reach((socket.AF_UNIX,), paths=(f"@{name}",))
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(f"\0{name}")
        server.listen()
        assert confined(reach, lambda: socket.socket(socket.AF_UNIX).connect(f"\0{name}")) == "None"
        assert confined(DOORMAN, lambda: socket.socket(socket.AF_UNIX).connect(f"\0{name}")) == "ECONNREFUSED"
    assert confined(reach, connect(9)) == "EACCES" or landlock.abi() < landlock.NET_ABI


# What cannot be applied


def fault(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_namespaces_that_are_refused_are_an_error_or_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "unshare", fault)
    with pytest.raises(SetupError) as caught:
        Confinement(TCP, NOTHING)._enter_namespaces()
    assert "namespaces of its own: Operation not permitted" in str(caught.value)


def test_landlock_that_is_forbidden_is_an_error_or_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", fault)
    assert "--allow-missing landlock" in confined(TCP, lambda: "confined")


@pytest.mark.parametrize(("module", "name"), [(privileges, "drop_capabilities"), (landlock, "restrict")])
def test_what_fails_while_it_is_sealed_is_an_error(
    module: object, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "restrict":
        needs_abi(landlock.FS_ABI)
    monkeypatch.setattr(module, name, fault)
    assert confined(TCP, lambda: "confined").startswith("not confined")


def test_the_unix_upstream_has_its_name_inside_only_if_there_is_a_root() -> None:
    reach = Reach((socket.AF_UNIX,), paths=("@name", "/run/tor/socks"))
    confinement = Confinement(reach, Allowance(frozenset(), fault))
    assert confinement.path_of("/run/tor/socks") == "/run/tor/socks"
    confinement._has_root = True
    assert confinement.path_of("/run/tor/socks") == socket_inside(1)
    assert confinement.path_of("@name") == "@name"
    assert confinement.path_of("") == ""


def test_signals_are_named() -> None:
    assert confined(TCP, lambda: signal.raise_signal(signal.SIGTERM)) in ("SIGTERM", "EPERM")
