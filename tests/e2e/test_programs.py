# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped profiles, each with the real program: what servers are told, and what is refused."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.directories import open_directory
from tests.support.people import Person
from tests.support.servers import free_port, wait_until_listening
from tests.test_bad_input import complaint

GATEWAY = "10.0.2.2"


def needs(*programs: str) -> pytest.MarkDecorator:
    absent = [name for name in programs if shutil.which(name, path="/usr/bin:/usr/sbin") is None]
    return pytest.mark.skipif(bool(absent), reason=f"needs {', '.join(absent)}")


def run(person: Person, profile: str, *command: str, share: str = "") -> subprocess.CompletedProcess[str]:
    options = ("--profile", profile, "--upstream", "direct", "--host-loopback")
    return person.run("run", *options, *(("--share", share) if share else ()), "--", *command, timeout_s=90)


class Site:
    """Files by path, on this machine's loopback, and the headers that came with each request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.agents: list[str] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.agents.append(self.headers.get("User-Agent", ""))
                path = self.path.partition("?")[0]
                content = site.files.get(path)
                self.send_response(200 if content is not None else 404)
                self.send_header(
                    "Content-Type", "text/html" if path.endswith("/") else "application/octet-stream"
                )
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://{GATEWAY}:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    yield found
    found.server.shutdown()
    found.server.server_close()


@needs("curl", "wget")
@pytest.mark.parametrize("name", ["curl", "wget"])
def test_a_fetcher_tells_its_name_and_no_version(person: Person, site: Site, name: str) -> None:
    site.files["/page"] = b"a page"
    command = {"curl": ("curl", "-sS"), "wget": ("wget", "-qO-")}[name]
    done = run(person, name, *command, f"{site.url}/page")
    assert (done.returncode, done.stdout) == (0, "a page"), done.stderr
    assert site.agents == [name]


@needs("git")
def test_git_clones_and_commits_as_nobody(person: Person, site: Site, tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    git("init", "-q", "-b", "main")
    git("commit", "-q", "--allow-empty", "-m", "a first commit")
    git("update-server-info")
    for path in (tmp_path / ".git").rglob("*"):
        if path.is_file():
            site.files[f"/it.git/{path.relative_to(tmp_path / '.git')}"] = path.read_bytes()
    script = (
        "git clone -q $0/it.git && cd it && git commit -q --allow-empty -m second"
        " && git log --format='%ae %ai %s'"
    )
    done = run(person, "git", "sh", "-c", script, site.url)
    mine, theirs = done.stdout.splitlines()
    assert mine.startswith("user@localhost "), done.stderr
    assert mine.endswith("+0000 second")
    assert theirs.endswith("a first commit")
    assert set(site.agents) == {"git/2"}


SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/key
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
"""


@needs("git", "ssh", "sshd", "ssh-keygen")
def test_git_reaches_a_server_by_ssh_without_a_key_or_a_name(
    person: Person, everyone: Sequence[Person]
) -> None:
    with open_directory() as directory:
        key = directory / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        port = free_port()
        (directory / "conf").write_text(SSHD.format(port=port, directory=directory))
        for path in (directory, *directory.iterdir()):
            shutil.chown(path, everyone[0].uid)
        command = [*everyone[0].prefix, "/usr/sbin/sshd", "-D", "-e", "-f", str(directory / "conf")]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                wait_until_listening(port, server)
                done = run(person, "git", "git", "ls-remote", f"ssh://{GATEWAY}:{port}/it.git")
            finally:
                server.terminate()
    assert done.returncode == 128
    assert "git@10.0.2.2: Permission denied (publickey" in done.stderr  # who "git" is, nobody here


def wheel() -> bytes:
    """A package of one module, as an index has it."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive:
        archive.writestr("torboxtry.py", "print('it was installed')\n")
        archive.writestr(
            "torboxtry-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: torboxtry\nVersion: 1.0\n"
        )
        archive.writestr(
            "torboxtry-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("torboxtry-1.0.dist-info/RECORD", "")
    return found.getvalue()


@needs("pip3")
def test_pip_installs_from_an_index(person: Person, site: Site) -> None:
    name = "torboxtry-1.0-py3-none-any.whl"
    site.files[f"/files/{name}"] = wheel()
    site.files["/simple/torboxtry/"] = f'<a href="/files/{name}">{name}</a>'.encode()
    script = (
        f"pip3 install -q --index-url {site.url}/simple --trusted-host {GATEWAY} --target it torboxtry"
        " && PYTHONPATH=it python3 -c 'import torboxtry'"
    )
    done = run(person, "pip", "sh", "-c", script)
    assert done.stdout == "it was installed\n", done.stderr


@needs("npm", "node")
def test_npm_installs_and_runs_no_script_of_the_packages(person: Person, site: Site) -> None:
    manifest = {"name": "torboxtry", "version": "1.0.0", "scripts": {"install": "touch $HOME/it-ran"}}
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w:gz") as archive:
        for name, content in {
            "package.json": json.dumps(manifest).encode(),
            "index.js": b"console.log('it was installed')",
        }.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    site.files["/torboxtry.tgz"] = found.getvalue()
    dist = {"tarball": f"{site.url}/torboxtry.tgz", "shasum": hashlib.sha1(found.getvalue()).hexdigest()}
    versions = {"1.0.0": {**manifest, "dist": dist}}
    site.files["/torboxtry"] = json.dumps(
        {"name": "torboxtry", "dist-tags": {"latest": "1.0.0"}, "versions": versions}
    ).encode()
    script = (
        f"npm install --silent --registry {site.url} torboxtry; node -e 'require(\"torboxtry\")'; ls $HOME"
    )
    done = run(person, "npm", "sh", "-c", script)
    assert done.stdout.startswith("it was installed\n"), done.stderr
    assert "it-ran" not in done.stdout
    assert set(site.agents) == {"npm"}


def one_letter(listener: socket.socket, letters: list[str]) -> None:
    """As much of SMTP (RFC 5321) as it takes to be sent one letter."""
    client, _ = listener.accept()
    with client, client.makefile("rw", newline="\r\n") as lines:

        def say(text: str) -> None:
            lines.write(f"{text}\n")
            lines.flush()

        say("220 here")
        for line in lines:
            word = line.split()[0].upper()
            if word in ("EHLO", "HELO"):
                letters.append(line)
            if word == "DATA":
                say("354 go on")
                for each in lines:
                    if each.rstrip() == ".":
                        break
                    letters.append(each)
            say("221 bye" if word == "QUIT" else "250 well")
            if word == "QUIT":
                return


@needs("mutt")
def test_a_letter_tells_neither_host_nor_program_nor_time_zone(person: Person) -> None:
    letters: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        server = threading.Thread(target=one_letter, args=(listener, letters))
        server.start()
        url = f"smtp://{GATEWAY}:{listener.getsockname()[1]}"
        settings = f'set smtp_url="{url}" from="me@example.org" ssl_force_tls=no ssl_starttls=no'
        script = 'echo hello | mutt -e "$0" -s subject you@example.org'
        done = run(person, "mail", "sh", "-c", script, settings)
        assert done.returncode == 0, done.stderr + done.stdout
        server.join(30)
    text = "".join(letters)
    assert "hello" in text
    assert letters[0].split()[1] == "localhost"
    assert "User-Agent" not in text
    assert any(line.startswith("Date:") and "+0000" in line for line in letters)
    assert socket.gethostname() not in [word for line in letters for word in line.replace("@", " ").split()]


def answer_irc(listener: socket.socket, said: list[str], is_over: threading.Event) -> None:
    """As much of IRC (RFC 2812) as it takes to be joined and to ask."""
    client, _ = listener.accept()
    client.settimeout(30)
    with client, client.makefile("rw", newline="\r\n") as lines:
        for line in lines:
            said.append(line.strip())
            word = line.split()[0]
            if word == "CAP" and "LS" in line:
                lines.write(":here CAP * LS :\n")
            elif word == "USER":
                lines.write(":here 001 user1 :welcome\n")
                for asked in ("VERSION", "TIME", "FINGER", "USERINFO", "PING 1"):
                    lines.write(f":someone!x@y PRIVMSG user1 :\x01{asked}\x01\n")
                lines.write("PING :done\n")
            elif word == "PONG":
                break
            lines.flush()
    is_over.set()


@needs("weechat")
def test_a_chat_program_answers_no_question_about_itself(person: Person) -> None:
    said: list[str] = []
    is_over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        threading.Thread(target=answer_irc, args=(listener, said, is_over), daemon=True).start()
        port = listener.getsockname()[1]
        orders = ("-r", f"/server add here {GATEWAY}/{port} -notls", "-r", "/connect here")
        # On a terminal of its own, inside: script(1) makes it.
        words = " ".join(f"'{word}'" for word in orders)
        command = person.command(
            *("run", "--profile", "chat", "--upstream", "direct", "--host-loopback", "--"),
            *("sh", "-c", f'TERM=xterm timeout 40 script -qc "weechat {words}" /dev/null'),
        )
        program = subprocess.Popen(
            command, env=dict(person.environment), cwd="/", stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert is_over.wait(45), said
        finally:
            program.terminate()
            program.wait(20)
            assert program.stdin is not None
            program.stdin.close()
    assert "USER user 0 * user" in [line.replace(":", "") for line in said]
    assert not [line for line in said if "NOTICE" in line]


def test_bittorrent_is_refused_with_a_reason(person: Person) -> None:
    for more in ((), ("--dry-run",)):
        done = person.run("run", "--profile", "torrent", *more, "--", "echo", "started")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("torbox: torrent.toml")
        assert "BitTorrent is not for Tor" in done.stderr


@needs("tcpdump")
def test_what_passes_a_sandbox_is_captured_outside_and_read_inside(person: Person) -> None:
    """Also what is refused: the program asked, and that is what one wants to see."""
    ask = "import socket; s = socket.socket(); s.settimeout(5); s.connect_ex(('192.88.99.7', 4242))"
    capture = person.home / f"torbox-test-{os.getpid()}.pcap"
    try:
        done = person.run("run", "--upstream", "block", "--pcap", str(capture), "--", "python3", "-c", ask)
        assert (done.returncode, done.stderr) == (0, "")
        assert (capture.stat().st_uid, capture.stat().st_mode & 0o777) == (person.uid, 0o600)
        options = ("run", "--profile", "capture", "--share", f"{capture}:ro", "--", "tcpdump", "-n", "-r")
        read = person.run(*options, f"/home/user/{capture.name}")
        assert re.search(r"IP 10\.0\.2\.100\.\d+ > 192\.88\.99\.7\.4242: Flags \[S\]", read.stdout), (
            read.stderr
        )
        assert re.search(r"IP .* > 10\.0\.2\.100.*(Flags \[R|unreachable)", read.stdout)
        again = person.run("run", "--upstream", "block", "--pcap", str(capture), "--", "true")
        assert "is there already" in complaint(again, 2)
    finally:
        capture.unlink(missing_ok=True)
    missing = person.run("run", "--upstream", "block", "--pcap", str(capture), "--", "no-such-program")
    assert missing.returncode == 127
    assert not capture.exists()


def test_what_is_sent_right_before_the_end_is_in_the_capture_or_it_is_told(person: Person) -> None:
    send = """
import contextlib, os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(60):
    s.sendto(bytes(1000), ("10.0.2.2", 9))
os._exit(0)
"""
    capture = person.home / f"torbox-test-{os.getpid()}.pcap"
    command = person.command(
        "run", "--upstream", "block", "--pcap", str(capture), "--", "python3", "-c", send
    )
    for limit in ((), ("prlimit", "--fsize=20000")):
        try:
            done = subprocess.run(
                [*limit, *command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env=dict(person.environment),
                timeout=60,
            )
            if limit:
                assert "--pcap" in complaint(done, 125)
            else:
                assert done.returncode == 0, done.stderr
                assert capture.read_bytes().count(bytes(1000)) >= 60
        finally:
            capture.unlink(missing_ok=True)


def test_a_capture_is_nowhere_that_the_program_may_write(person: Person) -> None:
    with open_directory(0o777) as directory:
        capture = directory / "some.pcap"
        options = ("run", "--upstream", "block", "--pcap", str(capture), "--share")
        said = complaint(person.run(*options, str(directory), "--", "true"), 2)
        assert "is in what the program may write" in said
        assert not capture.exists()
        assert person.run(*options, f"{directory}:ro", "--", "true").returncode == 0
        assert capture.exists()


def test_where_nothing_more_can_be_written_down_the_program_ends(person: Person) -> None:
    """As on a disk that is full; a capture that ends unseen would be believed."""
    send = (
        "import contextlib, socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "while True:\n"
        "    with contextlib.suppress(OSError): s.sendto(bytes(60_000), ('10.0.2.2', 9))"
    )
    capture = person.home / f"torbox-test-{os.getpid()}.pcap"
    command = person.command(
        "run", "--upstream", "block", "--pcap", str(capture), "--", "python3", "-c", send
    )
    try:
        done = subprocess.run(
            ["prlimit", "--fsize=1048576", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=dict(person.environment),
            timeout=60,
        )
        assert "could not write on to the file of --pcap" in complaint(done, 125)
        assert capture.stat().st_size == 1 << 20
    finally:
        capture.unlink(missing_ok=True)


@needs("tcpdump")
def test_a_capture_is_read_and_none_is_made(person: Person) -> None:
    packet = (
        bytes(12) + b"\x08\x00" + bytes.fromhex("4500001c00010000401166cb0a0000010a0000020035003500080000")
    )
    stamp = (0).to_bytes(8, "little") + len(packet).to_bytes(4, "little") * 2
    head = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    with open_directory() as directory:
        capture = directory / "some.pcap"
        capture.write_bytes(head + stamp + packet)
        capture.chmod(0o644)
        options = ("run", "--profile", "capture", "--share", f"{capture}:ro", "--", "tcpdump", "-n")
        done = person.run(*options, "-r", str(capture))
        assert "10.0.0.1.53 > 10.0.0.2.53" in done.stdout, done.stderr
        done = person.run(*options, "-i", "tun0")
    assert done.returncode == 1
    assert "needs CAP_NET_RAW, and no program in here has it" in done.stderr
