# SPDX-License-Identifier: GPL-3.0-or-later
"""What a profile shares of a real session, and what stays outside: X11, Wayland, sound, D-Bus, a GPU."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import display, x_client
from tests.support.confined import taken_over
from tests.support.display import Display
from tests.support.people import Person
from tests.support.processes import descendants, wait_until_gone
from torbox import landlock

Shared = Callable[..., subprocess.CompletedProcess[str]]


def needs(*programs: str) -> pytest.MarkDecorator:
    absent = [name for name in programs if shutil.which(name) is None]
    return pytest.mark.skipif(bool(absent), reason=f"needs {', '.join(absent)}")


class Session:
    """A runtime directory of the person's, and programs that serve in it."""

    def __init__(self, person: Person, runtime: Path) -> None:
        self._person = person
        self._stack = contextlib.ExitStack()
        self.runtime = runtime
        self.environment = {**person.environment, "XDG_RUNTIME_DIR": str(runtime)}

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def command(self, *words: str) -> list[str]:
        """A program of the person's, outside of any sandbox."""
        if os.geteuid() != 0:
            return list(words)
        uid = self._person.uid
        return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--", *words]

    def serve(self, socket: str, *words: str) -> subprocess.Popen[bytes]:
        """Start a server; return when its socket is there."""
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        server = subprocess.Popen(self.command(*words), env=self.environment, cwd="/", **quiet)
        self._stack.callback(server.wait, 10)
        self._stack.callback(server.terminate)
        end = time.monotonic() + 20
        while socket and not (self.runtime / socket).is_socket():
            assert server.poll() is None, f"{words[0]} has ended"
            assert time.monotonic() < end, f"{words[0]} does not serve"
            time.sleep(0.02)  # the servers have no common way to tell; looked at, never waited out
        return server

    def profile(self, text: str) -> str:
        path = self.runtime / "profile.toml"
        path.write_text(f'extends = "default"\n[desktop]\n{text}\n')
        path.chmod(0o644)
        return str(path)

    def run(self, text: str, *command: str) -> subprocess.CompletedProcess[str]:
        """A program in a sandbox that shares this of the session."""
        options = ("--profile", self.profile(text), "--upstream", "block")
        return self._person.run("run", *options, "--", *command, environment=self.environment)

    def leftovers(self) -> list[str]:
        """What torbox made for a sandbox, in the runtime directory or for want of one."""
        found = [path for place in (self.runtime, Path("/tmp")) for path in place.iterdir()]
        made = [path for path in found if re.fullmatch("torbox-[0-9a-f]{16}", path.name)]
        return [path.name for path in made if path.stat().st_uid == self._person.uid]


@pytest.fixture
def session(person: Person) -> Iterator[Session]:
    with tempfile.TemporaryDirectory(prefix="torbox-session-") as directory:
        if os.geteuid() == 0:
            os.chown(directory, person.uid, person.uid)
        with Session(person, Path(directory)) as found:
            yield found


@pytest.fixture
def screen(person: Person, session: Session) -> Iterator[Display]:
    """A display with a window called "secret", that also lets the person in without a cookie."""
    with display.display(person.uid) as found:
        session.environment.update(found.environment)
        found.tool("xhost", f"+si:localuser:#{person.uid}")
        session.serve("", "xev", "-name", "secret")
        found.wait_for("secret")
        found.tool("xdotool", "keydown", "a")
        yield found


# What a program asks of the X server beyond its own windows: a picture of another's, and the keys that are
# pressed; and whether it has the extension that presses keys.
LOOK = r"""
import socket, struct, subprocess, sys
secret = int(sys.argv[1])
for name, request in {
    "picture": struct.pack("<BBHIhhHHI", 73, 2, 5, secret, 0, 0, 4, 4, 0xFFFFFFFF),
    "keys": struct.pack("<BxH", 44, 1),
}.items():
    end = socket.socket(socket.AF_UNIX)
    end.connect("/tmp/.X11-unix/X0")
    end.sendall(struct.pack("<BxHHHHxx", ord("l"), 11, 0, 0, 0))
    _, length = struct.unpack("<B5xH", end.recv(8, socket.MSG_WAITALL))
    end.recv(length * 4, socket.MSG_WAITALL)
    end.sendall(request)
    answer = end.recv(40, socket.MSG_WAITALL) if name == "keys" else end.recv(32)
    # Who may not know which keys are down is told that none is.
    print(name, "reply" if answer[0] == 1 and (name != "keys" or any(answer[8:])) else "denied")
told = subprocess.run(["xdpyinfo"], capture_output=True, text=True).stdout
print("pressing", "reply" if "XTEST" in told else "denied")
"""


@needs(*display.NEEDS, "xev")
def test_an_untrusted_program_gets_no_picture_and_no_key_of_others(session: Session, screen: Display) -> None:
    secret = screen.wait_for("secret")
    # The server itself would let this user's programs in without a cookie, and trust them.
    seen = session.run('x11 = "untrusted"', "python3", "-c", LOOK, secret)
    assert seen.stdout.splitlines() == ["picture denied", "keys denied", "pressing denied"], seen.stderr
    inside = session.run(
        'x11 = "untrusted"', "sh", "-c", "echo $DISPLAY; ls /tmp/.X11-unix; ls -A /run/user/1000"
    )
    assert inside.stdout.splitlines() == [":0", "X0"]
    assert session.leftovers() == []


@needs(*display.NEEDS, "xev")
def test_an_untrusted_program_has_a_clipboard_of_its_own_and_learns_nothing_of_others(
    session: Session, screen: Display
) -> None:
    source = Path(x_client.__file__).read_text()
    server = f"/tmp/.X11-unix/X{screen.name[1:]}"
    user = subprocess.Popen(
        session.command("python3", "-c", source, server, "own"),
        env=session.environment,
        cwd="/",
        stdout=subprocess.PIPE,
        text=True,
    )
    with user:
        try:
            assert user.stdout is not None
            assert user.stdout.readline() == "ready\n"
            seen = session.run('x11 = "untrusted"', "python3", "-c", source, "/tmp/.X11-unix/X0", "look")
            after = screen.tool("xprop", "-root", "PULSE_SERVER")
            assert screen.windows("changed") == []
        finally:
            user.terminate()
        assert user.stdout.read() == ""  # nobody has taken the clipboard
    assert seen.stdout.splitlines() == [
        "clipboard: nothing",
        "another selection: nothing",
        "others: True b''",
        "root: b''",
        "own: True",
        "pasted: hunter2",
        "keyboard: 0 b''",  # where a key is held down, and the focus is elsewhere
    ], seen.stderr
    assert "unix:/run/user/1000/pulse/native" in after


@needs(*display.NEEDS, "xev")
def test_a_second_untrusted_sandbox_does_not_start_on_the_same_x_server(
    person: Person, session: Session, screen: Display
) -> None:
    run = ("run", "--profile", session.profile('x11 = "untrusted"'), "--upstream", "block")
    first = subprocess.Popen(
        person.command(*run, "sh", "-c", "echo ready; read -r line"),
        env=session.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
    )
    with first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"ready\n"
        second = person.run(*run, "true", environment=session.environment)
        assert second.returncode == 125
        assert f"another sandbox has windows on the X server {screen.name}" in second.stderr
        assert "Xephyr" in second.stderr
    assert person.run(*run, "true", environment=session.environment).returncode == 0


HOSTILE = """
    attempt("file", lambda: os.open(SECRET, os.O_RDONLY))
    attempt("list", lambda: os.listdir("/"))
    attempt("inet", lambda: socket.socket(socket.AF_INET))
    attempt("server", lambda: socket.socket(socket.AF_UNIX).connect("/socket0"))
    attempt("itself", lambda: socket.socket(socket.AF_UNIX).connect(SERVER))
    attempt("kill", lambda: os.kill(os.getppid(), 0))
"""
PTRACE = {"x86_64": 101, "aarch64": 117}[os.uname().machine]
ATTACKS = {
    "": ["end"],
    'os.execv("/bin/true", ["true"])': [],
    "os.fork()": [],
    f"import ctypes; ctypes.CDLL(None).syscall({PTRACE}, 0)": [],
}


@needs(*display.NEEDS, "xev")
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_doorman_who_is_taken_over_has_the_servers_socket_and_nothing_else(
    person: Person, session: Session, screen: Display, attack: str
) -> None:
    secret = session.runtime / "secret"
    secret.write_text("of the user's")
    secret.chmod(0o644)
    out = session.runtime / "out"
    out.touch()
    out.chmod(0o666)
    server = f"/tmp/.X11-unix/X{screen.name[1:]}"
    change = taken_over(out, f"{HOSTILE}    {attack}\n", whom="doorman", SECRET=str(secret), SERVER=server)
    run = ("run", "--profile", session.profile('x11 = "untrusted"'), "--upstream", "block", "echo", "ran")
    done = subprocess.run(
        person.altered(change, *run),
        env=session.environment,
        capture_output=True,
        text=True,
        cwd="/",
        timeout=60,
    )
    said = out.read_text().splitlines()
    attempts = [
        "file: EPERM",
        "list: EPERM",
        "inet: EAFNOSUPPORT",
        "server: done",
        "itself: ENOENT",
        "kill: EPERM",
    ]
    assert said == [*attempts, *ATTACKS[attack]], done.stderr
    if attack:
        assert (done.returncode, done.stdout) == (125, "")
        assert "start the desktop's doorman: it ended before it was ready" in done.stderr
    else:
        assert (done.returncode, done.stdout) == (0, "ran\n")


@needs(*display.NEEDS, "xev")
def test_a_trusted_one_does_and_the_user_is_warned(session: Session, screen: Display) -> None:
    seen = session.run('x11 = "trusted"', "python3", "-c", LOOK, screen.wait_for("secret"))
    assert seen.stdout.splitlines() == ["picture reply", "keys reply", "pressing reply"], seen.stderr
    assert "torbox: warning: X11, trusted: the program can read every key" in seen.stderr
    cookie = Path(screen.environment["XAUTHORITY"]).read_bytes()[-16:].hex()
    inside = session.run('x11 = "trusted"', "sh", "-c", 'od -An -v -tx1 "$XAUTHORITY" | tr -d " \n"')
    assert len(inside.stdout) > 32
    assert cookie not in inside.stdout


@needs("weston", "wayland-info")
def test_a_program_is_a_client_of_the_compositor(session: Session) -> None:
    weston = ("weston", "--backend=headless-backend.so", "--socket=wayland-5", "--no-config", "--idle-time=0")
    session.serve("wayland-5", *weston)
    session.environment["WAYLAND_DISPLAY"] = f"{session.runtime}/wayland-5"
    seen = session.run("wayland = true", "sh", "-c", "wayland-info; ls -A $XDG_RUNTIME_DIR")
    assert "wl_compositor" in seen.stdout, seen.stderr
    assert seen.stdout.splitlines()[-1] == "wayland-0"


PLAY = (
    "head -c 100000 /dev/zero > sound; pacat --raw sound && echo played; pactl info;"
    "pactl load-module module-null-sink && echo loaded;"
    "timeout 3 parec --raw -d out.monitor | head -c 100 | grep -qc . && echo heard"
)


@needs("pulseaudio", "pactl", "pacat")
def test_a_program_plays_and_neither_hears_nor_loads_modules_nor_learns_who_one_is(session: Session) -> None:
    modules = ("-L", "module-null-sink sink_name=out", "-L", "module-native-protocol-unix")
    session.serve("pulse/native", "pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", *modules)
    session.environment["PULSE_SERVER"] = f"unix:{session.runtime}/pulse/native"
    seen = session.run('sound = "play"', "sh", "-c", PLAY)
    assert "played" in seen.stdout, seen.stderr
    assert "heard" not in seen.stdout
    assert "loaded" not in seen.stdout
    assert "User Name: user\n" in seen.stdout
    assert "Host Name: host\n" in seen.stdout
    seen = session.run('sound = "record"', "sh", "-c", PLAY.replace("| grep -qc .", "| wc -c | grep -q 100"))
    assert "heard" in seen.stdout, seen.stderr
    assert "loaded" not in seen.stdout
    assert session.leftovers() == []


BUS = (
    "for name in org.example.Heard org.example.Deaf org.freedesktop.systemd1; do"
    " dbus-send --session --print-reply --dest=$name / org.example.Any.Method >/dev/null 2>said"
    " && echo $name answers || { echo $name; cat said; }; done; ls -A /run/user/1000 /run;"
    "dbus-send --system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames"
)


@needs("dbus-daemon", "dbus-send", "dbus-test-tool", "xdg-dbus-proxy")
def test_the_bus_has_the_names_of_the_profile_and_no_others(session: Session) -> None:
    address = f"unix:path={session.runtime}/bus"
    session.serve("bus", "dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}")
    session.environment["DBUS_SESSION_BUS_ADDRESS"] = address
    for name in ("org.example.Heard", "org.example.Deaf"):
        session.serve("", "dbus-test-tool", "echo", f"--name={name}", "--session")
    dbus = ["dbus-send", f"--bus={address}", "--print-reply", "--dest=org.freedesktop.DBus", "/"]
    asked = session.command(*dbus, "org.freedesktop.DBus.ListNames")
    end = time.monotonic() + 10
    while "org.example.Deaf" not in subprocess.run(asked, capture_output=True, text=True).stdout:
        assert time.monotonic() < end
    seen = session.run('dbus_talk = ["org.example.Heard"]', "sh", "-c", BUS)
    assert "org.example.Heard answers" in seen.stdout, seen.stdout + seen.stderr
    assert "org.example.Deaf answers" not in seen.stdout
    assert "org.freedesktop.systemd1 answers" not in seen.stdout
    assert "/run/user/1000:\nbus\n" in seen.stdout
    assert "system_bus_socket" in seen.stderr  # the system bus: there is no such file
    assert session.leftovers() == []


@needs("dbus-daemon", "xdg-dbus-proxy")
def test_a_proxy_of_the_bus_that_is_taken_over_has_the_doormans_socket_and_nothing_else(
    person: Person, session: Session
) -> None:
    address = f"unix:path={session.runtime}/bus"
    session.serve("bus", "dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}")
    session.environment["DBUS_SESSION_BUS_ADDRESS"] = address
    secret, out = session.runtime / "secret", session.runtime / "out"
    for path, mode in ((secret, 0o644), (out, 0o666)):
        path.touch()
        path.chmod(mode)
    attempts = HOSTILE + '    attempt("write", lambda: os.open("/sockets/new", os.O_CREAT | os.O_WRONLY))\n'
    change = taken_over(out, attempts, whom="proxy", SECRET=str(secret), SERVER=f"{session.runtime}/bus")
    profile = session.profile('dbus_talk = ["org.example.Heard"]')
    done = subprocess.run(
        person.altered(change, "run", "--profile", profile, "--upstream", "block", "echo", "ran"),
        env=session.environment,
        capture_output=True,
        text=True,
        cwd="/",
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    assert out.read_text().splitlines() == [
        "file: ENOENT",
        "list: done",  # in which are /usr, and directories of the root's own
        "inet: EAFNOSUPPORT",
        "server: done",
        "itself: ENOENT",
        "kill: EPERM",
        "write: EACCES" if landlock.abi() else "write: done",
        "end",
    ]


@needs("dbus-daemon", "xdg-dbus-proxy")
@pytest.mark.parametrize("name", ["stack-namespaces", "landlock"])
def test_what_a_kernel_refuses_what_stands_between_stops_the_start_or_is_told_once(
    person: Person, session: Session, name: str
) -> None:
    address = f"unix:path={session.runtime}/bus"
    session.serve("bus", "dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}")
    session.environment["DBUS_SESSION_BUS_ADDRESS"] = address
    change = {
        "stack-namespaces": "from torbox import confinement, syscalls\n"
        "def refuse(*_): raise OSError(1, 'Operation not permitted')\n"
        "class calls:\n"
        "    def __getattr__(self, name): return refuse if name == 'unshare' else getattr(syscalls, name)\n"
        "confinement.syscalls = calls()",
        "landlock": "from torbox import landlock\n"
        "def refuse(): raise OSError(1, 'Operation not permitted')\n"
        "landlock.abi = refuse",
    }[name]
    # Torbox takes the socket's name away while the program runs: none is left of it then.
    ask = (
        'n=0; until [ "$(stat -c %h "$XDG_RUNTIME_DIR/bus")" = 0 ]; do'
        " [ $((n += 1)) -lt 500 ] || exit 9; sleep 0.02; done;"
        " dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames"
    )
    profile = session.profile('dbus_talk = ["org.example.Heard"]')
    for options, code in (((), 125), (("--allow-missing", name), 0)):
        run = ("run", *options, "--profile", profile, "--upstream", "block", "sh", "-c", ask)
        done = subprocess.run(
            person.altered(change, *run),
            env=session.environment,
            capture_output=True,
            text=True,
            cwd="/",
            timeout=60,
        )
        assert done.returncode == code, done.stderr
        assert ("org.freedesktop.DBus" in done.stdout) == (code == 0)
        assert done.stderr.count(f"--allow-missing {name}") == 1
    assert done.stderr.startswith("torbox: WITHOUT")


@needs("dbus-daemon", "xdg-dbus-proxy")
def test_what_stands_between_ends_with_torbox_even_if_it_is_killed(person: Person, session: Session) -> None:
    address = f"unix:path={session.runtime}/bus"
    session.serve("bus", "dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}")
    session.environment["DBUS_SESSION_BUS_ADDRESS"] = address
    profile = session.profile('dbus_talk = ["org.example.Heard"]')
    command = person.command(
        "run", "--profile", profile, "--upstream", "block", "sh", "-c", "echo up; sleep 60"
    )
    run = subprocess.Popen(command, env=session.environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert run.stdout is not None
    assert run.stdout.readline() == b"up\n"
    below = descendants(run.pid)
    names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in below}
    assert "xdg-dbus-proxy" in names
    assert session.leftovers() == []  # nobody outside reaches the proxy by a name
    run.send_signal(signal.SIGKILL)
    run.wait()
    wait_until_gone(below)
    run.stdout.close()


@needs("dbus-daemon")
def test_without_a_proxy_nothing_starts(person: Person, session: Session) -> None:
    address = f"unix:path={session.runtime}/bus"
    session.serve("bus", "dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}")
    session.environment["DBUS_SESSION_BUS_ADDRESS"] = address
    change = "import torbox.desktop.bus as bus; bus.PROXY = 'no-such-proxy'"
    profile = session.profile('dbus_talk = ["org.example.Heard"]')
    command = person.altered(change, "run", "--profile", profile, "--upstream", "block", "echo", "ran")
    done = subprocess.run(command, env=session.environment, capture_output=True, text=True, cwd="/")
    assert (done.returncode, done.stdout) == (125, "")
    assert "share the session bus: no-such-proxy: No such file" in done.stderr
    assert session.leftovers() == []


# A /dev of the test's own, in a mount namespace of its own, with a device that every machine has as the GPU.
DEV = """
mount -t tmpfs -o mode=755 dev "$0"
for name in null zero full random urandom tty; do cp -a "/dev/$name" "$0/"; done
mkdir -m 755 "$0/net" "$0/dri" "$0/pts" "$0/shm"; cp -a /dev/net/tun "$0/net/"
mount --rbind /dev/pts "$0/pts"; ln -s pts/ptmx "$0/ptmx"; ln -s /proc/self/fd "$0/fd"; chmod 1777 "$0/shm"
mknod -m 666 "$0/dri/renderD128" c 1 7; mknod -m 666 "$0/dri/card0" c 1 7
mount --move "$0" /dev
exec "$@"
"""
GPU = (
    "dd if=/dev/zero of=/dev/dri/renderD128 bs=1 count=1;"
    "ls /dev/dri /sys /sys/dev/char; cat /sys/dev/char/1:7/uevent"
)


@pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: a device is made in a mount namespace of the test's own"
)
def test_a_gpu_is_its_render_node_and_what_describes_it(person: Person, session: Session) -> None:
    place = session.runtime / "dev"
    place.mkdir()
    alone = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", DEV, str(place)]
    run = ("run", "--profile", session.profile("gpu = true"), "--upstream", "block", "sh", "-c", GPU)
    done = subprocess.run(
        [*alone, *person.command(*run)], env=session.environment, capture_output=True, text=True, cwd="/"
    )
    assert "No space left on device" in done.stderr, done.stderr  # what /dev/full says: it is the device
    assert "DEVNAME=full" in done.stdout
    listed = done.stdout.split()
    assert "renderD128" in listed
    assert "card0" not in listed
    assert {"class", "kernel", "firmware", "fs"}.isdisjoint(listed)


@needs(*display.NEEDS, "xev")
def test_verify_finds_no_leak_in_a_sandbox_with_a_display(
    person: Person, session: Session, screen: Display
) -> None:
    assert screen.environment["DISPLAY"] == session.environment["DISPLAY"]
    profile = session.profile('x11 = "untrusted"')
    done = person.run("verify", "--profile", profile, "--upstream", "block", environment=session.environment)
    assert done.returncode == 0, done.stdout + done.stderr
