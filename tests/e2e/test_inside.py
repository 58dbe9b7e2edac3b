# SPDX-License-Identifier: GPL-3.0-or-later
"""What the program finds inside, asked by the program itself: nothing of the host that it need not have."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.directories import profile
from tests.support.people import Person


def inside(person: Person, script: str, *arguments: str, **environment: str) -> str:
    """What a Python program prints inside; its failure is the test's."""
    done = person.run(
        "run", "--upstream", "block", "--", "python3", "-c", script, *arguments, environment=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_no_capability_and_no_way_to_regain_one(person: Person) -> None:
    status = inside(person, "print(open('/proc/self/status').read())")
    fields = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"


def test_no_descriptor_but_the_standard_streams(person: Person) -> None:
    listing = inside(person, "import os; print(sorted(int(fd) for fd in os.listdir('/proc/self/fd')))")
    assert json.loads(listing)[:3] == [0, 1, 2]
    assert len(json.loads(listing)) == 4  # the listing itself is the fourth


def test_a_descriptor_the_caller_left_open_does_not_get_in(person: Person) -> None:
    script = "import os, sys\ntry: print(os.read(int(sys.argv[1]), 9))\nexcept OSError as no: print(no.errno)"
    python = ["python3", "-c", script]
    with open("/etc/os-release") as left_open:
        number = left_open.fileno()

        def run(command: list[str]) -> str:
            os.lseek(number, 0, os.SEEK_SET)
            return subprocess.run(
                [*command, str(number)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                pass_fds=[number],
                env=dict(person.environment),
                cwd="/",
                timeout=60,
                text=True,
            ).stdout.strip()

        assert run([*person.prefix, *python]).startswith("b'")
        assert run(person.command("run", "--upstream", "block", *python)) == str(errno.EBADF)


def test_the_environment_tells_nothing_of_the_caller(person: Person) -> None:
    names = inside(
        person, "import os; print(*sorted(os.environ))", SECRET="x", SSH_AUTH_SOCK="/run/agent"
    ).split()
    expected = {"HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "TZ", "USER"}
    assert set(names) - {"LC_CTYPE"} == expected  # LC_CTYPE: Python's own, PEP 538


def test_run_is_empty_and_tmp_shm_and_home_are_new(person: Person) -> None:
    script = (
        "import os; print([sorted(os.listdir(p)) for p in ('/run', '/tmp', '/dev/shm', os.environ['HOME'])])"
    )
    assert inside(person, script) == "[[], [], [], []]"


def test_names_are_resolved_by_the_gateway_alone(person: Person) -> None:
    script = "print(open('/etc/resolv.conf').read(), open('/etc/nsswitch.conf').read())"
    text = inside(person, script)
    assert [line for line in text.splitlines() if "nameserver" in line] == ["nameserver 10.0.2.2"]
    assert "hosts: files dns" in text


def test_user_host_and_machine_are_the_same_for_everybody(person: Person) -> None:
    script = (
        "import os, pwd, socket, time\n"
        "print(pwd.getpwuid(os.getuid()).pw_name, os.getuid(), socket.gethostname(), os.getcwd(),"
        " open('/etc/machine-id').read().strip() != '', time.tzname[0])"
    )
    assert inside(person, script) == "user 1000 host /home/user True UTC"
    try:
        host_id = Path("/etc/machine-id").read_text()
    except FileNotFoundError:
        host_id = ""
    assert inside(person, "print(open('/etc/machine-id').read())") != host_id.strip()


def test_only_the_sandboxs_processes_are_there_and_pid_1_tells_nothing(person: Person) -> None:
    script = (
        "import os\n"
        "pids = sorted(int(p) for p in os.listdir('/proc') if p.isdecimal())\n"
        "print(len(pids), open('/proc/1/cmdline', 'rb').read().strip(b'\\0').decode())\n"
        "for name in ('environ', 'maps', 'mem', 'fd/0', 'cwd', 'exe'):\n"
        "    look = os.readlink if name in ('cwd', 'exe', 'fd/0') else lambda p: open(p, 'rb').read(1)\n"
        "    try:\n"
        "        look(f'/proc/1/{name}')\n"
        "        print('READ', name)\n"
        "    except OSError: pass\n"
    )
    assert inside(person, script) == "2 init"


def test_pid_1_cannot_be_killed_or_traced_from_inside(person: Person) -> None:
    script = (
        "import ctypes, os, signal\n"
        "for number in (9, 15, 1, 2, 19): os.kill(1, number)\n"
        "print(ctypes.CDLL(None).ptrace(16, 1, 0, 0))\n"
    )
    assert inside(person, script) == "-1"


def test_usr_and_etc_are_read_only(person: Person) -> None:
    script = (
        "for path in ('/usr/x', '/usr/bin/x', '/etc/x', '/x', '/dev/x', '/etc/ssl/x'):\n"
        "    try: open(path, 'w'); print('WROTE', path)\n"
        "    except OSError: pass\n"
        "for path in ('/etc/passwd', '/etc/resolv.conf', '/etc/hosts'):\n"
        "    try: open(path, 'a').write('x'); print('WROTE', path)\n"
        "    except OSError: pass\n"
        "print('done')"
    )
    assert inside(person, script) == "done"


def test_sys_and_the_hosts_homes_are_not_there(person: Person) -> None:
    script = (
        "import os; print(os.path.exists('/sys/class'), os.listdir('/home'), os.path.exists('/root/.bashrc'))"
    )
    assert inside(person, script) == "False ['user'] False"


@contextmanager
def listener(family: int, address: str | tuple[str, int]) -> Iterator[list[bytes]]:
    """A server of the host's; what anybody sent to it."""
    heard: list[bytes] = []
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.bind(address)
        server.listen()
        server.settimeout(0.1)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    heard.append(b"somebody came")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield heard
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize("directory", ["/tmp", "/var/tmp", "/run"])
def test_a_unix_socket_of_the_host_cannot_be_reached(
    person: Person, directory: str, request: pytest.FixtureRequest
) -> None:
    if not os.access(directory, os.W_OK):
        directory = "/tmp"
    path = f"{directory}/torbox-test-{os.getpid()}.socket"
    script = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "try: s.connect(sys.argv[1]); print('connected')\n"
        "except OSError as error: print(type(error).__name__)"
    )
    try:
        with listener(socket.AF_UNIX, path) as heard:
            os.chmod(path, 0o777)
            assert inside(person, script, path) == "FileNotFoundError"
    finally:
        os.unlink(path)
    assert heard == []


def test_an_abstract_socket_of_the_host_cannot_be_reached(person: Person) -> None:
    script = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "try: s.connect('\\0' + sys.argv[1]); print('connected')\n"
        "except OSError as error: print(type(error).__name__)"
    )
    name = f"torbox-test-{os.getpid()}"
    with listener(socket.AF_UNIX, f"\0{name}") as heard:
        assert inside(person, script, name) == "ConnectionRefusedError"
    assert heard == []


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.2.2", "fd00::2", "::1", "::ffff:127.0.0.1"])
def test_a_server_on_the_hosts_loopback_cannot_be_reached(person: Person, address: str) -> None:
    script = (
        "import socket, sys\n"
        "try: socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10); print('connected')\n"
        "except OSError as error: print('refused')"
    )
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with listener(socket.AF_INET, ("127.0.0.1", port)) as heard:
        assert inside(person, script, address, str(port)) == "refused"
    assert heard == []


def test_names_that_are_really_addresses_do_not_exist(person: Person) -> None:
    # By the SOCKS server they would be taken for addresses, which the policy has not seen.
    script = (
        "import socket, struct, sys\n"
        "def ask(name):\n"
        "    q = b''.join(bytes([len(l)]) + l.encode() for l in name.split('.')) + b'\\0'\n"
        "    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:\n"
        "        s.settimeout(5); s.connect(('10.0.2.2', 53))\n"
        "        s.send(struct.pack('!6H', 7, 0x100, 1, 0, 0, 0) + q + struct.pack('!HH', 1, 1))\n"
        "        return s.recv(512)[3] & 15\n"
        "names = ('127.0.0.1', '127.1', '2130706433', '0x7f.1', '169.254.169.254', 'ok.example')\n"
        "print([ask(name) for name in names])"
    )
    assert inside(person, script) == "[3, 3, 3, 3, 3, 0]"


def test_the_name_services_of_the_host_are_not_asked(person: Person) -> None:
    script = "import socket\ntry: print(socket.gethostbyname('_gateway'))\nexcept OSError: print('unknown')"
    assert "unknown" in inside(person, script) or inside(person, script).startswith("198.1")


def test_https_and_svcb_are_answered_at_once_with_nothing(person: Person) -> None:
    script = (
        "import socket, struct\n"
        "answers = []\n"
        "for kind in (64, 65):\n"
        "    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:\n"
        "        s.settimeout(5); s.connect(('10.0.2.2', 53))\n"
        "        head = struct.pack('!6H', 7, 0x100, 1, 0, 0, 0)\n"
        "        s.send(head + b'\\3www\\7example\\0' + struct.pack('!HH', kind, 1))\n"
        "        answer = s.recv(512); answers.append((answer[3] & 15, answer[7]))\n"
        "print(answers)"
    )
    assert inside(person, script) == "[(0, 0), (0, 0)]"


def test_uptime_starts_anew_where_the_kernel_has_time_namespaces(person: Person) -> None:
    assert Path("/proc/self/ns/time").exists()
    assert float(inside(person, "print(open('/proc/uptime').read().split()[0])")) < 60


def test_the_numeric_ids_outside_are_not_in_the_maps(person: Person) -> None:
    maps = [
        inside(person, f"print(open('/proc/self/{name}').read().split())") for name in ("uid_map", "gid_map")
    ]
    assert maps == ["['1000', '1000', '1']"] * 2
    assert inside(person, "print(open('/proc/self/setgroups').read())") == "deny"


def test_how_many_processors_are_counted_is_the_profiles_to_say(person: Person) -> None:
    script = "import os; print(len(os.sched_getaffinity(0)))"
    assert int(inside(person, script)) == len(os.sched_getaffinity(0))
    for wanted, seen in ((1, 1), (4096, len(os.sched_getaffinity(0)))):
        with profile(f"identity.processors = {wanted}") as path:
            done = person.run("run", "--upstream", "block", "--profile", path, "--", "nproc")
        assert done.stdout == f"{seen}\n", done.stderr


def test_the_umask_and_limits_are_ordinary_and_core_dumps_are_off(person: Person) -> None:
    script = """
import os, resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
print(oct(os.umask(0)), resource.getrlimit(resource.RLIMIT_CORE))
"""
    assert inside(person, script) == "0o22 (1, 1)"  # at 0 what core_pattern names would be started outside
