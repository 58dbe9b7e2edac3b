# SPDX-License-Identifier: GPL-3.0-or-later
"""Homes by their modes, as the program and its caller find them: what stays, goes, and cannot be had."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.directories import open_directory, profile
from tests.support.people import Person

NAME = f"torbox-test-{os.getpid()}"
PERSIST = f"home.mode = 'persist'\nhome.name = '{NAME}'\n"


@pytest.fixture
def kept(person: Person) -> Iterator[Path]:
    """Where this test's home is kept, if it is; removed afterwards."""
    path = person.home / ".local/share/torbox/homes" / NAME
    yield path
    person.run("home", "reset", NAME)
    assert not path.exists()


@pytest.fixture
def dear(person: Person) -> Iterator[Path]:
    """A directory of the caller's home with a file in it."""
    path = person.home / NAME
    path.mkdir()
    (path / "file").write_text("dear\n")
    for each in (path, path / "file"):
        os.chown(each, person.uid, person.home.stat().st_gid)
    yield path
    shutil.rmtree(path)


def run(person: Person, text: str, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    with profile(text) as path:
        return person.run("run", "--upstream", "block", "--profile", path, *options, "--", "sh", "-c", script)


def told(person: Person, text: str, script: str) -> str:
    done = run(person, text, script)
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- persist ---------------------------------------------------------------------------------------


def test_a_kept_home_is_there_again_and_its_path_is_not_told(person: Person, kept: Path) -> None:
    script = "cat kept; echo x >> kept; pwd; stat -c '%a %u' .; cat /proc/self/mountinfo"
    first = run(person, PERSIST, script)
    assert first.returncode == 0
    lines = told(person, PERSIST, script).splitlines()
    assert lines[:3] == ["x", "/home/user", "700 1000"]
    assert (kept / "home" / "kept").read_text() == "x\nx\n"
    assert (kept / "home" / "kept").stat().st_uid == person.uid
    assert kept.stat().st_mode & 0o777 == 0o700
    mounts = "\n".join(lines[3:])
    assert person.home.name not in mounts
    (home,) = (line.split() for line in mounts.splitlines() if " /home/user " in line)
    assert {"rw", "nosuid", "nodev"} <= set(home[5].split(","))
    assert NAME not in mounts


def test_files_of_the_profile_are_made_once(person: Person, kept: Path) -> None:
    text = PERSIST + 'home.files = { ".config/x" = "the profile\'s\\n", y = "y\\n" }\n'
    assert told(person, text, "cat .config/x y; echo mine > .config/x; rm y") == "the profile's\ny\n"
    assert told(person, text, "cat .config/x y") == "mine\ny\n"


def test_a_home_that_is_used_is_not_used_twice(person: Person, kept: Path) -> None:
    with profile(PERSIST) as path:
        options = ("run", "--upstream", "block", "--profile", path, "--")
        first = subprocess.Popen(
            person.command(*options, "sh", "-c", "echo up; read line; ls"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(person.environment),
            cwd="/",
            text=True,
        )
        assert first.stdout is not None
        assert first.stdout.readline() == "up\n"
        second = person.run(*options, "touch", "second")
        assert second.returncode == 125
        assert second.stderr.splitlines()[0].startswith(
            f"torbox: the home '{NAME}' is used by another sandbox"
        )
        assert f"(pid {first.pid})" in second.stderr
        assert person.run("home", "reset", NAME).returncode == 125
        assert first.communicate("\n", timeout=20)[0] == ""
        assert person.run(*options, "touch", "third").returncode == 0


# What an earlier run left, as a shell's words; VICTIM is a directory that everybody may write to.
TRAPS = [
    pytest.param("ln -s VICTIM .config", 125, id="directory of a profile's file"),
    pytest.param("mkdir .config && ln -s VICTIM .config/app", 125, id="one further down"),
    pytest.param("mkdir -p .config/app && ln -s VICTIM/made .config/app/x", 0, id="the file itself"),
    pytest.param(
        "mkdir -p .config/app && ln -s ../../../../../../VICTIM/made .config/app/x", 0, id="relative"
    ),
    pytest.param("ln -s VICTIM shared", 125, id="place of a share"),
    pytest.param("ln -s /etc shared", 125, id="place of a share, led to the sandbox's own"),
    pytest.param("touch shared", 125, id="file at the place of a shared directory"),
    pytest.param("mkdir -p .config/app/x", 0, id="directory at the place of a file"),
    pytest.param("touch .config", 125, id="file at the place of a directory"),
    pytest.param("ln -s / .cache; ln -s VICTIM Downloads", 0, id="what nobody asked for"),
]


@pytest.mark.parametrize(("trap", "code"), TRAPS)
def test_what_a_program_left_in_its_home_leads_nowhere(
    person: Person, kept: Path, dear: Path, trap: str, code: int
) -> None:
    with open_directory(0o1777) as victim:
        assert run(person, PERSIST, trap.replace("VICTIM", str(victim))).returncode == 0
        text = PERSIST + (
            f"home.files = {{ '.config/app/x' = 'text' }}\nmounts.read_only = ['{dear}']\n"
        ).replace(f"'{dear}'", f"'~/{NAME}'")
        if "shared" in trap:
            shutil.move(kept / "home" / "shared", kept / "home" / NAME)
        done = run(person, text, f"cat ~/{NAME}/file; ls /etc | grep -c {NAME}")
        assert os.listdir(victim) == []
    assert done.returncode == (1 if code == 0 else code), done.stderr  # grep -c finds nothing
    assert done.stdout == ("dear\n0\n" if code == 0 else "")
    assert "Traceback" not in done.stderr
    if code:
        assert done.stderr.startswith("torbox: build the file system: ")
    assert (dear / "file").read_text() == "dear\n"


def test_a_file_of_a_kept_home_is_whole_or_not_there(person: Person, kept: Path) -> None:
    text = PERSIST + "[home.files]\nbig = '''" + "x" * 4000 + "'''\n"
    with profile(text) as path:
        command = person.command("run", "--upstream", "block", "--profile", path, "--", "wc", "-c", "big")
        limited = ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash", *command]
        done = subprocess.run(
            limited, capture_output=True, text=True, env=dict(person.environment), cwd="/", timeout=60
        )
        assert done.returncode == 125
        assert "/home/user/big: File too large" in done.stderr
        assert os.listdir(kept / "home") == []
        assert person.run(*command[len(person.command()) :]).stdout == "4000 big\n"


def test_a_full_disk_is_one_message_and_nothing_half_made(person: Person) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: a small disk is mounted")
    with open_directory() as disk, profile(PERSIST + "home.files = { a = 'a', b = 'b', c = 'c' }") as path:
        script = (
            'mount -t tmpfs -o size=64k,nr_inodes="$1",mode=1777 none "$0" && shift && "$@" 2>&1; code=$?; '
            'find "$0" -type f ! -name lock ! -size -1c | wc -l; exit $code'
        )
        for inodes in range(2, 14):
            options = ("--upstream", "block", "--profile", path, "--", "cat", "a", "b", "c")
            command = [*person.command("run", *options)]
            environment = {**person.environment, "XDG_DATA_HOME": str(disk)}
            if person.name == "root under sudo":  # who takes no directories of the caller's
                environment = dict(person.environment)
                break
            done = subprocess.run(
                ["unshare", "--mount", "sh", "-c", script, str(disk), str(inodes), *command],
                capture_output=True,
                text=True,
                env=environment,
                cwd="/",
                timeout=60,
            )
            assert done.returncode in (0, 125), done.stdout
            if done.returncode:
                assert "No space left" in done.stdout or "its disk is full" in done.stdout, done.stdout
                assert "Traceback" not in done.stdout
        else:
            assert done.returncode == 0
            assert done.stdout.startswith("abc")


# -- overlay ---------------------------------------------------------------------------------------


def test_an_overlay_shows_the_home_and_changes_nothing_of_it(person: Person, dear: Path) -> None:
    script = f"cat {NAME}/file; echo x > {NAME}/file; echo x > new; cat {NAME}/file; rm -r {NAME}; ls {NAME}"
    before = sorted(os.listdir(person.home))
    for _ in range(2):
        done = run(person, "home.mode = 'overlay'", script)
        assert done.stdout == "dear\nx\n", done.stderr
        assert "warning: home.mode = overlay: the program can read all of your home" in done.stderr
    assert (dear / "file").read_text() == "dear\n"
    assert sorted(os.listdir(person.home)) == before


def test_an_overlays_changes_can_be_kept_apart(person: Person, dear: Path, kept: Path) -> None:
    text = f"home = {{ mode = 'overlay', keep_changes = true, name = '{NAME}' }}"
    assert (
        told(person, text, f"echo x > {NAME}/file; echo y > new; rm .bashrc; ls -A | wc -l").strip().isdigit()
    )
    assert told(person, text, f"cat {NAME}/file new; ls .bashrc 2>&1 | wc -l") == "x\ny\n1\n"
    assert (dear / "file").read_text() == "dear\n"
    assert not (person.home / "new").exists()
    assert person.run("home", "list").stdout.startswith(f"{NAME}\tchanges to your own\t\t")
    person.run("home", "reset", NAME)
    assert told(person, text, f"cat {NAME}/file") == "dear\n"


def test_neither_torboxs_own_directories_nor_sockets_are_in_an_overlay(person: Person, dear: Path) -> None:
    own = person.home / ".config" / "torbox" / "profiles"
    made = next((each for each in (own.parent.parent, own.parent) if not each.exists()), None)
    own.mkdir(parents=True, exist_ok=True)
    (own / "secret.toml").write_text("")
    connect = (
        "import socket, sys\ntry: socket.socket(socket.AF_UNIX).connect('s')\nexcept OSError: print('no')"
    )
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(dear / "s"))
            server.listen()
            os.chmod(dear / "s", 0o777)
            script = (
                f'find .config/torbox; touch .config/torbox/x; cd {NAME}; test -S s && python3 -c "{connect}"'
            )
            done = run(person, "home.mode = 'overlay'", script)
        assert done.stdout == ".config/torbox\nno\n", done.stderr
        assert "Read-only file system" in done.stderr
    finally:
        (own / "secret.toml").unlink()
        if made:
            shutil.rmtree(made)


@pytest.mark.parametrize(("call", "wanted"), [("mount", "Linux 5.11"), ("setxattr", "Linux 6.6")])
def test_where_the_kernel_cannot_do_it_nothing_starts(person: Person, call: str, wanted: str) -> None:
    change = {
        "mount": "from torbox import syscalls; mount = syscalls.mount\n"
        "def refused(*a):\n"
        "    if a[2] == 'overlay': raise PermissionError(1, 'no')\n"
        "    return mount(*a)\n"
        "syscalls.mount = refused",
        "setxattr": "import os\ndef refused(*a): raise OSError(95, 'no')\nos.setxattr = refused",
    }[call]
    with profile("home.mode = 'overlay'") as path:
        done = subprocess.run(
            person.altered(change, "run", "--upstream", "block", "--profile", path, "--", "echo", "ran"),
            capture_output=True,
            text=True,
            env=dict(person.environment),
            cwd="/",
            timeout=60,
        )
    assert done.returncode == 125
    assert done.stdout == ""
    assert wanted in done.stderr
    assert "Traceback" not in done.stderr


# -- host ------------------------------------------------------------------------------------------


def test_ones_own_home_is_changed_and_that_is_said_first(person: Person, dear: Path) -> None:
    script = f"cat {NAME}/file; echo x > {NAME}/file; pwd"
    done = run(person, "home.mode = 'host'", script)
    assert done.stdout == "dear\n/home/user\n"
    assert "torbox: warning: home.mode = host: the program has your own home directory" in done.stderr
    assert (dear / "file").read_text() == "x\n"
    assert (dear / "file").stat().st_uid == person.uid
    assert run(person, "home.mode = 'host'", "true", "-q").stderr == ""


def test_kept_homes_are_not_in_ones_own(person: Person, kept: Path) -> None:
    assert told(person, PERSIST, "echo secret > x") == ""
    for mode in ("host", "overlay"):
        script = "ls -A .local/share/torbox; touch .local/share/torbox/x 2>/dev/null || echo closed"
        assert told(person, f"home.mode = '{mode}'", script) == "closed\n"


def test_a_home_that_is_no_ordinary_one_is_refused(person: Person) -> None:
    if person.name == "root under sudo":
        return  # whose home is what the system says
    for home, said in (
        ("/", "never shared as a whole"),
        ("/usr", "is not yours"),
        ("/no/such", "No such file"),
    ):
        with profile("home.mode = 'host'") as path:
            done = person.run("run", "--profile", path, "--", "true", environment={"HOME": home})
        assert done.returncode == 2
        assert said in done.stderr


def test_verify_is_clean_in_a_kept_home(person: Person, kept: Path) -> None:
    with profile(PERSIST) as path:
        done = person.run("verify", "--upstream", "block", "--profile", path)
    assert done.returncode == 0, done.stdout + done.stderr
