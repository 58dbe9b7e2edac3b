# SPDX-License-Identifier: GPL-3.0-or-later
"""The private Tor network does what the real one does, as far as torbox needs it."""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import socks

from tests.tornet.network import PUBLIC_NAME, SITE_NAME, SIX_NAME, TorNetwork
from tests.tornet.process import TornetError
from tests.tornet.site import PAGE, pattern
from tests.tornet.visitor import fetch
from torbox import this_machine


def curl(network: TorNetwork, *options: str) -> subprocess.CompletedProcess[bytes]:
    proxy = "{}:{}".format(*network.socks_address)
    argv = ["curl", "--silent", "--show-error", "--max-time", "60", "--socks5-hostname", proxy, *options]
    return subprocess.run(argv, capture_output=True, check=False)


def test_a_page_is_fetched_by_name_and_the_sites_log_names_the_exit(tornet: TorNetwork) -> None:
    fetched = curl(tornet, tornet.site_url + "?by-name")
    assert (fetched.returncode, fetched.stdout, fetched.stderr) == (0, PAGE, b"")
    visit = next(line for line in tornet.site_visits() if "?by-name" in line)
    assert visit.split()[1] in tornet.exits
    assert f"{SITE_NAME} A NOERROR" in tornet.names_asked()


def test_a_visit_by_no_tor_shows_in_the_sites_log(tornet: TorNetwork) -> None:
    with socket.create_connection(("127.0.0.1", tornet.site_port)) as visit:
        visit.sendall(b"GET /?straight HTTP/1.0\r\n\r\n")
        while visit.recv(65_536):
            pass
    assert next(line for line in tornet.site_visits() if "?straight" in line).split()[1] == "-"


def test_the_onion_service_is_the_site(tornet: TorNetwork) -> None:
    fetched = curl(tornet, tornet.onion_url + "?by-onion")
    assert (fetched.returncode, fetched.stdout) == (0, PAGE)
    visit = next(line for line in tornet.site_visits() if "?by-onion" in line)
    assert visit.split()[1:4] == ["client", "http", tornet.onion_host]


def test_the_socks_port_is_a_unix_socket_too(tornet: TorNetwork) -> None:
    argv = ["curl", "-sS", "--max-time", "60", "--proxy", f"socks5h://localhost{tornet.socks_path}"]
    fetched = subprocess.run([*argv, tornet.site_url], capture_output=True, check=False)
    assert (fetched.returncode, fetched.stdout, fetched.stderr) == (0, PAGE, b"")


def test_https_is_trusted_by_the_networks_own_authority_only(tornet: TorNetwork) -> None:
    trusting = curl(tornet, "--cacert", str(tornet.ca_path), tornet.site_tls_url)
    assert (trusting.returncode, trusting.stdout) == (0, PAGE)
    assert curl(tornet, tornet.site_tls_url).returncode == 60  # CURLE_PEER_FAILED_VERIFICATION


def test_bulk_passes_whole_in_both_directions(tornet: TorNetwork, tmp_path: Path) -> None:
    body = b"".join(pattern(1_000_001))
    assert curl(tornet, f"{tornet.site_url}big?bytes={len(body)}").stdout == body
    (tmp_path / "body").write_bytes(body)
    answer = curl(tornet, "--upload-file", str(tmp_path / "body"), tornet.site_url + "upload").stdout.decode()
    assert answer.split() == [str(len(body)), hashlib.sha256(body).hexdigest()]


def test_headers_are_echoed(tornet: TorNetwork) -> None:
    assert (
        b"X-Asked: yes\n" in curl(tornet, "--header", "X-Asked: yes", tornet.site_url + "echo-headers").stdout
    )


def test_a_name_that_does_not_exist_is_a_socks_error(tornet: TorNetwork) -> None:
    with pytest.raises(socks.GeneralProxyError, match="0x04: Host unreachable"):
        fetch(tornet.socks_address, "nowhere.torbox.test", 80)
    assert "nowhere.torbox.test A NXDOMAIN" in tornet.names_asked()


def test_a_closed_port_is_a_socks_error(tornet: TorNetwork) -> None:
    # Not 0x05, connection refused: tor 0.4.9 reads the socket's error twice, gets EINPROGRESS the
    # second time, and ends the stream for reason MISC ("Didn't recognize errno 115").
    with pytest.raises(socks.GeneralProxyError, match=r"0x0[15]"):
        fetch(tornet.socks_address, SITE_NAME, tornet.closed_port)


def refused_by_an_exit(network: TorNetwork, address: str, port: int) -> None:
    """Ask for a connection until an exit says that its policy forbids it."""
    proxy = "{}:{}".format(*network.socks_address)
    with network.control() as control:
        control.command("SETEVENTS STREAM")
        argv = ["curl", "--silent", "--socks5", proxy, f"http://{address}:{port}/"]
        with subprocess.Popen(argv) as visitor:
            told: list[str] = []
            while not any(f" {address}:{port} " in line and "REASON=EXITPOLICY" in line for line in told):
                told += [event.lines[0] for event in control.receive()]
            visitor.terminate()


def test_an_exit_goes_to_no_address_of_this_machine_but_127_0_0_1(tornet: TorNetwork) -> None:
    """As real exits go to none."""
    own = [each for each in this_machine.addresses() if ":" not in each and not each.startswith("127.")]
    for address in ("127.0.0.2", *own):
        with socket.create_server((address, 0)) as listener:
            listener.setblocking(False)
            refused_by_an_exit(tornet, address, listener.getsockname()[1])
            with pytest.raises(BlockingIOError):
                listener.accept()


def resolve(network: TorNetwork, command: int, name: str) -> bytes:
    """Tor's RESOLVE (0xf0) and RESOLVE_PTR (0xf1): the reply from its status byte on."""
    if command == 0xF0:
        address = b"\x03" + bytes([len(name)]) + name.encode()
    else:
        address = b"\x01" + socket.inet_aton(name)
    with socket.create_connection(network.socks_address, timeout=60) as asking:
        asking.sendall(b"\x05\x01\x00\x05" + bytes([command]) + b"\x00" + address + b"\x00\x00")
        answer = b""
        while block := asking.recv(4096):
            answer += block
    return answer[3:]


def test_names_are_resolved_both_ways(tornet: TorNetwork) -> None:
    assert resolve(tornet, 0xF0, PUBLIC_NAME)[:7] == b"\x00\x00\x01\xc0\x00\x02\x07"
    assert resolve(tornet, 0xF0, SIX_NAME)[:19] == b"\x00\x00\x04" + socket.inet_pton(
        socket.AF_INET6, "2001:db8::6"
    )
    assert PUBLIC_NAME.encode() in resolve(tornet, 0xF1, "192.0.2.7")
    assert resolve(tornet, 0xF0, "nowhere.torbox.test")[0] == 4


def test_two_socks_users_have_two_circuits_and_one_has_one(tornet: TorNetwork) -> None:
    for user in ("isolated-a", "isolated-b", "isolated-a"):
        assert PAGE in fetch(tornet.socks_address, SITE_NAME, tornet.site_port, user=user)
    circuits = [circuit for circuit in tornet.circuits() if circuit.socks_user.startswith("isolated-")]
    assert sorted(circuit.socks_user for circuit in circuits) == ["isolated-a", "isolated-b"]
    assert all(len(circuit.path) == 3 for circuit in circuits)


def test_newnym_gives_a_new_circuit(tornet: TorNetwork) -> None:
    fetch(tornet.socks_address, SITE_NAME, tornet.site_port, user="renewed")
    before = {circuit.id for circuit in tornet.circuits() if circuit.socks_user == "renewed"}
    tornet.newnym()
    fetch(tornet.socks_address, SITE_NAME, tornet.site_port, user="renewed")
    after = {circuit.id for circuit in tornet.circuits() if circuit.socks_user == "renewed"}
    assert before
    assert after - before


def test_with_the_client_killed_nothing_answers_and_the_end_leaves_nothing(tmp_path: Path) -> None:
    with TorNetwork(tmp_path / "network", onion=False) as network:
        processes = [os.pidfd_open(pid) for pid in network.pids]
        assert len(processes) == 7  # five tors, the site, the names
        assert PAGE in fetch(network.socks_address, SITE_NAME, network.site_port)
        network.kill_client()
        with pytest.raises(OSError, match="Connection refused"):
            fetch(network.socks_address, SITE_NAME, network.site_port)
    for process in processes:
        assert select.select([process], [], [], 0)[0] == [process]
        os.close(process)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_in_use_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(TornetError, match="is not empty"):
        TorNetwork(tmp_path).start()
    assert (tmp_path / "thesis.txt").exists()


def test_it_runs_as_a_command_in_a_namespace_with_nothing_but_lo(tmp_path: Path) -> None:
    directory = tmp_path / "network"
    command = [
        sys.executable,
        "-m",
        "tests.tornet",
        "--json",
        "--listen",
        "10.77.0.2",
        "--directory",
        str(directory),
    ]
    script = 'ip link set lo up && ip address add 10.77.0.2/24 dev lo && exec "$@"'
    argv = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", script, "sh", *command]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        try:
            described = json.loads(running.stdout.readline())
            entering = ["nsenter", "--target", str(running.pid), "--user", "--net", "--preserve-credentials"]
            fetching = ["curl", "-sS", "--socks5-hostname", described["socks"], described["onion_url"]]
            assert described["socks"].startswith("10.77.0.2:")
            assert subprocess.run([*entering, *fetching], capture_output=True, check=False).stdout == PAGE
        finally:
            running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
    assert not directory.exists()
