# SPDX-License-Identifier: GPL-3.0-or-later
"""The private network's life: keys, authorities, a consensus, a client, an onion service, and the end.

The order matters more than it looks. Authorities first, and the client only when every authority
has a consensus that lists all relays: a client that asks too early backs off, and a start of 10 s
becomes one of 40. Fewer than four relays would do for streams, not for onion services.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.tornet import names, site
from tests.tornet.certificates import make_certificates
from tests.tornet.keys import make_keys
from tests.tornet.ports import bind_udp, free_ports, listen_tcp
from tests.tornet.process import Process, TornetError, find_program, wait_until
from tests.tornet.torrc import Client, Relay, client_torrc, membership, relay_torrc
from tests.tornet.visitor import fetch
from torbox.tor.control import Circuit, Control

SITE_NAME = "site.torbox.test"
OTHER_NAME = "other.torbox.test"  # the same site by a second name
PUBLIC_NAME = (
    "public.torbox.test"  # an address that is nobody's (RFC 5737): resolves, both ways, but leads nowhere
)
SIX_NAME = "six.torbox.test"  # has only an AAAA record (RFC 3849)
NAMES: dict[str, Sequence[str]] = {
    SITE_NAME: ["127.0.0.1"],
    OTHER_NAME: ["127.0.0.1"],
    PUBLIC_NAME: ["192.0.2.7"],
    SIX_NAME: ["2001:db8::6"],
}

_CONSENSUS_S = 60.0  # 6 to 14 s seen
_BOOTSTRAP_S = 40.0  # 1 to 4 s seen
_ONION_S = 40.0  # 1.5 to 6.5 s seen
_UNIX_PATH_LIMIT = 108  # bytes of sun_path, with the final zero


class TorNetwork:
    """A context manager: the network runs, and can be used, inside of `with`.

    `directory` (made if it does not exist) is removed at the end; by default it is a temporary one.
    `listen` is the address of the client's TCP SocksPort. `extra_names` adds to `NAMES`.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        listen: str = "127.0.0.1",
        extra_names: Mapping[str, Sequence[str]] | None = None,
        onion: bool = True,
    ) -> None:
        self._directory = directory
        self._listen = listen
        self._onion = onion
        self.names: dict[str, Sequence[str]] = {**NAMES, **(extra_names or {})}
        self._processes: list[Process] = []
        self._tors: list[Process] = []
        self._site_sockets: Sequence[socket.socket] = ()

    # -- life --------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Build the network, from nothing to an onion service that answers, in 9 to 20 s."""
        if self._directory is None:
            self.directory = Path(tempfile.mkdtemp(prefix="tornet-"))
        else:
            self.directory = self._directory.absolute()
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(self.directory.iterdir()):
                raise TornetError(f"{self.directory} is not empty, and it would be removed at the end")
        try:
            self._open_site()
            self._start_names()
            self._start_relays()
            self._start_client()
            self._start_site()
            if self._onion:
                self.wait_for_onion()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process and remove everything."""
        while self._processes:
            self._processes.pop().kill()
        self._tors.clear()
        self._close_site()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _start(self, process: Process) -> Process:
        self._processes.append(process)
        return process

    def _open_site(self) -> None:
        """Take the site's ports: the client must know them, and the site the client's process."""
        self._site_sockets = listen_tcp("127.0.0.1"), listen_tcp("127.0.0.1")
        self.site_port, self.site_tls_port = (int(each.getsockname()[1]) for each in self._site_sockets)

    def _start_site(self) -> None:
        certificate_names = [name for name in self.names if name.endswith(".torbox.test")]
        self.ca_path, certificate, key = make_certificates(self.directory, certificate_names)
        self.site_log = self.directory / "site.log"
        tors = {tor.name.removeprefix("tor "): tor.pid for tor in self._tors}
        keep = [each.fileno() for each in self._site_sockets]
        argv = [
            sys.executable,
            "-P",
            site.__file__,
            *map(str, keep),
            str(certificate),
            str(key),
            json.dumps(tors),
        ]
        self._start(Process("the web site", argv, self.site_log, keep=keep))
        self._close_site()

    def _close_site(self) -> None:
        for listener in self._site_sockets:
            listener.close()

    def _start_names(self) -> None:
        self.names_log = self.directory / "names.log"
        with bind_udp("127.0.0.1") as receiver:
            self._resolv_conf = self.directory / "resolv.conf"
            self._resolv_conf.write_text(f"nameserver 127.0.0.1:{receiver.getsockname()[1]}\n")
            table = {name.lower(): list(addresses) for name, addresses in self.names.items()}
            argv = [sys.executable, "-P", names.__file__, str(receiver.fileno()), json.dumps(table)]
            self._start(Process("the name server", argv, self.names_log, keep=[receiver.fileno()]))

    def _start_relays(self) -> None:
        ports = iter(free_ports(8))
        self.closed_port = next(ports)  # nothing listens there, as long as no one else takes it
        self.relays = [
            Relay(nick, self.directory / nick, next(ports), next(ports))
            for nick in ("auth1", "auth2", "auth3")
        ]
        self.relays.append(Relay("relay", self.directory / "relay", next(ports)))
        self._authorities = [relay for relay in self.relays if relay.is_authority]
        self.exits = [relay.nick for relay in self._authorities]
        make_keys(self.relays)
        for relay in self.relays:
            text = relay_torrc(relay, self._authorities, self._resolv_conf)
            self._start_tor(relay.nick, relay.directory, text)
        self.exit_logs = [tor.log for tor in self._tors[: len(self.exits)]]
        wait_until(self._consensus_is_full, "consensus that lists all relays", _CONSENSUS_S, self._tors)

    def _start_tor(self, name: str, directory: Path, text: str) -> Process:
        torrc = directory / "torrc"
        torrc.write_text(text)
        # --defaults-torrc: the machine's own defaults (Debian's name a user and sockets) are not meant.
        argv = [find_program("tor", "tor"), "--defaults-torrc", os.devnull, "-f", str(torrc)]
        tor = self._start(Process(f"tor {name}", argv, directory / "tor.log"))
        self._tors.append(tor)
        return tor

    def _consensus_is_full(self) -> bool:
        for authority in self._authorities:
            try:
                text = (authority.directory / "cached-microdesc-consensus").read_text()
            except FileNotFoundError:
                return False
            if not all(f"\nr {relay.nick} " in text for relay in self.relays):
                return False
        return True

    def _start_client(self) -> None:
        directory = self.directory / "client"
        directory.mkdir(mode=0o700)
        port = free_ports(1, self._listen)[0]
        self._client = client = Client(directory, self._listen, port, ("127.0.0.1", self.site_port))
        client.sockets.mkdir(mode=0o700)
        if len(os.fsencode(client.control_path)) >= _UNIX_PATH_LIMIT:
            raise TornetError(f"{client.control_path} is too long for a Unix socket (107 bytes at most)")
        self._client_tor = self._start_tor("client", directory, client_torrc(client, self._authorities))
        started = [self._client_tor]
        wait_until(lambda: client.cookie_path.exists(), "control cookie", _BOOTSTRAP_S, started)
        wait_until(lambda: client.control_path.exists(), "control socket", _BOOTSTRAP_S, started)
        with self.control() as control:
            wait_until(
                lambda: "PROGRESS=100" in control.get_info("status/bootstrap-phase"),
                "bootstrapped client",
                _BOOTSTRAP_S,
                started,
            )
        self.onion_host = (client.onion_directory / "hostname").read_text().strip()

    def _onion_answers(self) -> bool:
        try:
            return fetch(self.socks_address, self.onion_host, 80, timeout_s=10).startswith(b"HTTP/1.1 200")
        except OSError:
            return False  # usual until the descriptor is published

    # -- what to use -------------------------------------------------------------------------------

    @property
    def socks_address(self) -> tuple[str, int]:
        """The client's SocksPort."""
        return self._client.listen, self._client.socks_port

    @property
    def socks_path(self) -> Path:
        """The client's SocksPort as a Unix socket."""
        return self._client.socks_path

    @property
    def control_path(self) -> Path:
        """The client's control port, a Unix socket; the cookie is needed."""
        return self._client.control_path

    @property
    def cookie_path(self) -> Path:
        return self._client.cookie_path

    @property
    def site_url(self) -> str:
        return f"http://{SITE_NAME}:{self.site_port}/"

    @property
    def site_tls_url(self) -> str:
        """Signed by the authority at `ca_path`."""
        return f"https://{SITE_NAME}:{self.site_tls_port}/"

    @property
    def onion_url(self) -> str:
        return f"http://{self.onion_host}/"

    @property
    def membership(self) -> str:
        """torrc lines that make any other tor a client of this network."""
        return membership(self._authorities)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def described(self) -> dict[str, str]:
        """All of this as text, for a person or a program that started the network as a command."""
        return {
            "socks": f"{self.socks_address[0]}:{self.socks_address[1]}",
            "socks_path": str(self.socks_path),
            "control_path": str(self.control_path),
            "cookie_path": str(self.cookie_path),
            "site_url": self.site_url,
            "site_tls_url": self.site_tls_url,
            "ca_path": str(self.ca_path),
            "onion_url": self.onion_url,
            "closed_url": f"http://{SITE_NAME}:{self.closed_port}/",
            "site_log": str(self.site_log),
            "names_log": str(self.names_log),
            "exits": " ".join(self.exits),
            "exit_logs": " ".join(str(path) for path in self.exit_logs),
            "client_pid": str(self._client_tor.pid),
            "directory": str(self.directory),
        }

    # -- what to do with it ------------------------------------------------------------------------

    def control(self) -> Control:
        """A connection to the client's control port, to be closed by the caller."""
        return Control(self.control_path, self.cookie_path)

    def wait_for_onion(self) -> None:
        """Return when the onion service answers.

        Where intervals are as short as here, its descriptor moves to other relays every few minutes and
        is amiss for a moment: whoever wants the service later than at the start asks here first.
        """
        wait_until(self._onion_answers, "answer of the onion service", _ONION_S, self._tors)

    def newnym(self) -> None:
        """No stream of now on shares a circuit with one of before."""
        with self.control() as control:
            control.command("SIGNAL NEWNYM")

    def circuits(self) -> list[Circuit]:
        """The client's circuits; `socks_user` tells for whom one was built, `path` through what."""
        with self.control() as control:
            return control.circuits()

    def kill_client(self) -> None:
        """The client dies at once, as by kill -9: its sockets refuse, its streams are lost."""
        self._client_tor.kill()

    def site_visits(self) -> list[str]:
        """The site's log, a line per request: `SOURCE VIA SCHEME HOST "REQUEST" STATUS`."""
        return self.site_log.read_text().splitlines()

    def names_asked(self) -> list[str]:
        """What the exits asked the name server, a line per question: `NAME TYPE RCODE`."""
        return self.names_log.read_text().splitlines()
