# SPDX-License-Identifier: GPL-3.0-or-later
"""Real programs, unchanged, through a real Tor: pages by name, onion services, Firefox, refusals."""

from __future__ import annotations

import time

import pytest

from tests.support.people import Person
from tests.tornet.__main__ import told
from tests.tornet.network import TorNetwork

FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=60).read().decode())"


@pytest.fixture
def upstream(tornet: TorNetwork) -> str:
    return "tor://{}:{}".format(*tornet.socks_address)


def test_curl_fetches_a_page_by_name_and_the_exit_is_seen(
    person: Person, tornet: TorNetwork, upstream: str
) -> None:
    before = len(tornet.site_visits())
    done = person.run("run", "--upstream", upstream, "--", "curl", "-sS", tornet.site_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "This page came through Tor" in done.stdout
    (visit,) = tornet.site_visits()[before:]
    assert visit.split()[1] in tornet.exits


def test_the_command_lines_that_make_tornet_prints_work(person: Person, tornet: TorNetwork) -> None:
    tornet.wait_for_onion()
    lines = [line.split() for line in told(tornet).splitlines() if line.startswith("  torbox run ")]
    assert [words[-1] for words in lines] == [tornet.site_url, tornet.onion_url]
    for words in lines:
        done = person.run(*words[1:])
        assert "This page came through Tor" in done.stdout, done.stderr


def test_https_works_end_to_end(person: Person, tornet: TorNetwork, upstream: str) -> None:
    script = f"cat > /tmp/ca.pem; curl -sS --cacert /tmp/ca.pem {tornet.site_tls_url}"
    certificate = tornet.ca_path.read_text()
    done = person.run("run", "--upstream", upstream, "--", "sh", "-c", script, input=certificate)
    assert "This page came through Tor" in done.stdout


def test_tor_may_listen_on_a_unix_socket(person: Person, tornet: TorNetwork) -> None:
    if person.name == "ordinary user":
        tornet.directory.chmod(0o711)
        tornet.socks_path.parent.parent.chmod(0o711)
        tornet.socks_path.parent.chmod(0o711)
        tornet.socks_path.chmod(0o666)
    done = person.run(
        "run", "--upstream", f"tor+unix:{tornet.socks_path}", "--", "curl", "-sS", tornet.site_url
    )
    assert "This page came through Tor" in done.stdout


def test_an_onion_service_answers_a_program_that_knows_none(
    person: Person, tornet: TorNetwork, upstream: str
) -> None:
    tornet.wait_for_onion()
    done = person.run("run", "--upstream", upstream, "--", "python3", "-c", FETCH, tornet.onion_url)
    assert done.returncode == 0, done.stderr
    assert "This page came through Tor" in done.stdout


def test_curl_fetches_the_onion_service(person: Person, tornet: TorNetwork, upstream: str) -> None:
    tornet.wait_for_onion()
    done = person.run("run", "--profile", "curl", "--upstream", upstream, "curl", "-sS", tornet.onion_url)
    assert done.returncode == 0, done.stderr
    assert "This page came through Tor" in done.stdout


def test_firefox_takes_a_screenshot_of_a_page(person: Person, tornet: TorNetwork, upstream: str) -> None:
    before = len(tornet.site_visits())
    script = 'firefox-esr --headless --screenshot /tmp/page.png "$0" >&2 && cat /tmp/page.png | base64'
    command = ("run", "--profile", "browser", "--upstream", upstream, "sh", "-c", script, tornet.site_url)
    done = person.run(*command, timeout_s=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("iVBORw0KGgo")  # the PNG signature
    assert len(done.stdout) > 4000
    visits = [visit.split()[1] for visit in tornet.site_visits()[before:]]
    assert visits
    assert set(visits) <= set(tornet.exits)


def test_a_closed_port_is_refused_within_a_second(person: Person, tornet: TorNetwork, upstream: str) -> None:
    probe = (
        "import socket, sys, time\n"
        "socket.getaddrinfo(sys.argv[1], 1)\n"
        "begin = time.monotonic()\n"
        "try: socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "except OSError as error: print(type(error).__name__, time.monotonic() - begin)\n"
    )
    host = tornet.site_url.split("/")[2].split(":")[0]
    command = ("run", "--upstream", upstream, "python3", "-c", probe, host, str(tornet.closed_port))
    person.run(*command)  # builds the circuit
    name, took = person.run(*command).stdout.split()
    assert name == "ConnectionRefusedError"
    assert float(took) < 1.0


def test_names_that_do_not_exist_fail_and_are_not_asked_of_this_machine(
    person: Person, tornet: TorNetwork, upstream: str
) -> None:
    done = person.run("run", "--upstream", upstream, "curl", "-sS", "http://no-such-name.torbox.test/")
    assert done.returncode == 7
    assert any(line.startswith("no-such-name.torbox.test") for line in tornet.names_asked())


def test_dns_through_tor_gives_real_addresses_both_ways(
    person: Person, tornet: TorNetwork, upstream: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    profile = '[net]\ndns = "tor"\n'
    script = "getent ahostsv4 public.torbox.test && getent hosts 192.0.2.7"
    path = person.home / "dns-tor.toml"
    path.write_text(profile)
    path.chmod(0o644)
    try:
        done = person.run("run", "--profile", str(path), "--upstream", upstream, "sh", "-c", script)
    finally:
        path.unlink()
    assert "192.0.2.7" in done.stdout, done.stderr
    assert "public.torbox.test" in done.stdout.splitlines()[-1]


def test_every_sandbox_has_circuits_of_its_own(tornet: TorNetwork, upstream: str, person: Person) -> None:
    def users() -> set[str]:
        return {each.socks_user for each in tornet.circuits() if each.socks_user}

    before = users()
    for _ in range(2):
        assert person.run("run", "--upstream", upstream, "curl", "-sS", tornet.site_url).returncode == 0
    assert len(users() - before) == 2


def test_udp_is_refused_at_once(person: Person, upstream: str) -> None:
    probe = (
        "import socket, time\n"
        "for family, address in ((socket.AF_INET, '192.175.48.1'), (socket.AF_INET6, '2001:db8::1')):\n"
        "    with socket.socket(family, socket.SOCK_DGRAM) as s:\n"
        "        s.settimeout(10); s.connect((address, 443)); begin = time.monotonic(); s.send(b'quic')\n"
        "        try: s.recv(1)\n"
        "        except OSError as error: print(type(error).__name__, time.monotonic() - begin < 1)\n"
    )
    done = person.run("run", "--upstream", upstream, "python3", "-c", probe)
    assert done.stdout.splitlines() == ["ConnectionRefusedError True"] * 2


def test_a_start_takes_a_moment(person: Person, upstream: str) -> None:
    person.run("run", "--upstream", upstream, "true")
    begin = time.monotonic()
    assert person.run("run", "--upstream", upstream, "true").returncode == 0
    assert time.monotonic() - begin < 5  # a hang shows; how fast it is, the benchmark says
