# SPDX-License-Identifier: GPL-3.0-or-later
"""Who runs torbox in a test: the user who runs the tests, and, if that is root, an ordinary one too.

As root the namespace tests run twice: as root gone to an ordinary user (as under sudo), and as a
process that never was anything else. The ordinary user is made for the session and removed after it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
USER_NAME = f"torbox-test-{os.getpid()}"  # of this session alone: others may be running
TUN = Path("/dev/net/tun")


@dataclass(frozen=True)
class Person:
    """A way to run torbox: `prefix` goes before the command, `environment` is all that it sees."""

    name: str
    prefix: tuple[str, ...]
    environment: Mapping[str, str]
    home: Path
    uid: int

    def command(self, *arguments: str) -> list[str]:
        """The command line of `torbox ARGUMENTS…` as this person."""
        return [*self.prefix, *_PYTHON.command, "-m", "torbox", *arguments]

    def altered(self, change: str, *arguments: str) -> list[str]:
        """The same of a torbox in which the statements of `change` have been executed first."""
        main = "import sys; sys.argv[0] = 'torbox'; import torbox.__main__"
        return [*self.prefix, *_PYTHON.command, "-c", f"{change}\n{main}", *arguments]

    def run(
        self,
        *arguments: str,
        input: str | None = None,
        timeout_s: float = 60,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run torbox to its end, with no terminal."""
        streams = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env={**self.environment, **(environment or {})},
            cwd="/",
            start_new_session=True,
            **streams,
        )


class _Python:
    """An interpreter and a copy of torbox that every user of this machine may read."""

    def __init__(self) -> None:
        self.command: tuple[str, ...] = (sys.executable, "-P")
        self.environment: dict[str, str] = {"PYTHONPATH": str(ROOT)}


_PYTHON = _Python()


def _ordinary_environment(home: Path) -> dict[str, str]:
    return {
        "HOME": str(home),
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        **_PYTHON.environment,
    }


@contextmanager
def people() -> Iterator[Sequence[Person]]:
    """Everyone torbox is to be run as. As root this makes a user and opens the tun device, and says so."""
    if os.geteuid() != 0:
        # A home of the tests' own: the user's profiles, Tor and its guards are not to be touched.
        with tempfile.TemporaryDirectory(prefix="torbox-home-") as directory:
            home = Path(directory)
            yield [Person("this user", (), _ordinary_environment(home), home, os.getuid())]
        return
    with open_tun_device(), _ordinary_user() as user, _readable_python(user):
        home = Path(user.pw_dir)
        environment = _ordinary_environment(home)
        become = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--")
        yield [
            Person("ordinary user", become, environment, home, user.pw_uid),
            Person("root under sudo", (), {**environment, "SUDO_UID": str(user.pw_uid)}, home, user.pw_uid),
        ]


@contextmanager
def open_tun_device() -> Iterator[None]:
    """Give /dev/net/tun the mode it has on ordinary systems, where anyone may open it, for a while."""
    mode = TUN.stat().st_mode & 0o7777
    if mode & 0o666 == 0o666:
        yield
        return
    sys.stderr.write(f"\ntests: chmod 0666 {TUN} until they end (it is closed to ordinary users)\n")
    TUN.chmod(0o666)
    try:
        yield
    finally:
        TUN.chmod(mode)


@contextmanager
def _ordinary_user() -> Iterator[pwd.struct_passwd]:
    sys.stderr.write(f"\ntests: making the user {USER_NAME}\n")
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", USER_NAME], check=True)
    try:
        yield pwd.getpwnam(USER_NAME)
    finally:
        subprocess.run(["userdel", "--remove", "--force", USER_NAME], check=True, capture_output=True)


@contextmanager
def _readable_python(user: pwd.struct_passwd) -> Iterator[None]:
    """See that `user` can run torbox: from here if it may read it, else from a copy."""
    before = (_PYTHON.command, _PYTHON.environment)
    if _can_import(user):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="torbox-copy-", dir="/var/tmp") as directory:
        for source in (ROOT / "torbox", ROOT / "profiles"):
            shutil.copytree(source, Path(directory, source.name))
        for library in ROOT.glob("torbox__mypyc.*"):  # of a compiled tree
            shutil.copy(library, directory)
        packages = Path(directory, "packages")
        import prctl

        shutil.copytree(Path(prctl.__file__).parent, packages)
        subprocess.run(["chmod", "-R", "a+rX", directory], check=True)
        _PYTHON.command = ("/usr/bin/python3", "-P")
        _PYTHON.environment = {"PYTHONPATH": f"{directory}:{packages}"}
        if not _can_import(user):
            raise RuntimeError(f"{user.pw_name} can run torbox neither from {ROOT} nor from a copy of it")
        try:
            yield
        finally:
            _PYTHON.command, _PYTHON.environment = before


def _can_import(user: pwd.struct_passwd) -> bool:
    command = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
    # By way of a shell: setpriv's own exec still has root's right to look into every directory.
    command += ["sh", "-c", 'exec "$@"', "sh", *_PYTHON.command, "-c", "import torbox, prctl, tomli"]
    done = subprocess.run(command, env=_ordinary_environment(Path(user.pw_dir)), capture_output=True, cwd="/")
    return done.returncode == 0
