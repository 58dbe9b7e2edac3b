# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: the main job at work, offline: real programs, a real Tor, and no other way out.

A private Tor network is started on this machine: authorities, exits, a client, an onion service.
Then programs that know nothing of Tor run in sandboxes, and after each the demo shows what was seen
and what it proves. Every line marked with a tick was checked; the first that fails ends the demo
with exit code 1.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from tests.support.people import Person, people
from tests.tornet.network import TorNetwork
from tests.tornet.process import TornetError

CONSOLE = Console(highlight=False, soft_wrap=True)


class DemoError(Exception):
    """Something was not as it should be."""


class Demo:
    def __init__(self, person: Person, network: TorNetwork) -> None:
        self._person = person
        self._network = network
        self._upstream = "tor://{}:{}".format(*network.socks_address)

    def torbox(self, *arguments: str, upstream: str | None = None) -> tuple[int, str, float]:
        """Run and show one command; its exit code, all its output, and the seconds it took."""
        shown = shlex.join(arguments)
        CONSOLE.print(f"[bold]$ torbox run {escape(shown)}[/]")
        begin = time.monotonic()
        done = self._person.run("run", "--upstream", upstream or self._upstream, *arguments, timeout_s=60)
        output = (done.stdout + done.stderr).strip()
        for line in output.splitlines()[:8]:
            CONSOLE.print(f"  [dim]{escape(line[:110])}[/]")
        return done.returncode, output, time.monotonic() - begin

    def show(self) -> None:
        self.page()
        self.onion()
        self.firefox()
        self.inside()
        self.refusals()
        self.without_tor()

    def page(self) -> None:
        heading("A page, by name, through Tor")
        code, output, _ = self.torbox("curl", "-sS", self._network.site_url)
        check(code == 0 and "This page came through Tor" in output, "curl got the page, and knows no Tor")
        visit = self._network.site_visits()[-1]
        CONSOLE.print(f"  [dim]the site's log: {escape(visit)}[/]")
        check(any(name in visit for name in self._network.exits), "the site saw a Tor exit, not this program")

    def onion(self) -> None:
        heading("An onion service, by a program that has never heard of one")
        fetch = "import urllib.request as u, sys; print(u.urlopen(sys.argv[1]).read().decode())"
        self._network.wait_for_onion()
        code, output, _ = self.torbox("python3", "-c", fetch, self._network.onion_url)
        check(code == 0 and "This page came through Tor" in output, "Python fetched a .onion page")

    def firefox(self) -> None:
        heading("Firefox, with the profile `browser`")
        if shutil.which("firefox-esr") is None:
            CONSOLE.print("  [dim]firefox-esr is not installed, so this part is left out[/]")
            return
        script = (
            'firefox-esr --headless --screenshot /tmp/page.png "$0" >/dev/null 2>&1; wc -c </tmp/page.png'
        )
        code, output, took = self.torbox(
            "-q", "--profile", "browser", "sh", "-c", script, self._network.site_url
        )
        check(code == 0 and int(output.split()[-1]) > 1000, f"it took a screenshot, in {took:.1f} s")
        visit = self._network.site_visits()[-1]
        check(any(name in visit for name in self._network.exits), "by way of a Tor exit")

    def inside(self) -> None:
        heading("What the program sees of this machine")
        _, output, _ = self.torbox("sh", "-c", "whoami; hostname; ls -A ~ /run; ps -e | wc -l; ip -br addr")
        check("user" in output.split(), "another user, host and home; no other process; one network device")

    def refusals(self) -> None:
        heading("What does not work, and says so at once")
        closed = self._network.site_url.replace(str(self._network.site_port), str(self._network.closed_port))
        code, _, took = self.torbox("curl", "-sS", closed)
        check(code == 7 and took < 5, f"a closed port is refused, not waited for ({took:.1f} s)")
        probe = (
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
            "s.connect(('192.0.2.1', 443)); s.send(b'quic'); s.recv(1)"
        )
        code, output, took = self.torbox("python3", "-c", probe)
        check("ConnectionRefusedError" in output, f"UDP is refused, so nothing waits for QUIC ({took:.1f} s)")
        for address in ("127.0.0.1", "10.0.2.2"):
            code, _, _ = self.torbox(
                "curl", "-sS", "-m", "10", f"http://{address}:{self._network.site_port}/"
            )
            check(code != 0, f"the site that listens on this machine's loopback is not at {address}")

    def without_tor(self) -> None:
        heading("When Tor is gone")
        visits = len(self._network.site_visits())
        self._network.kill_client()
        code, output, _ = self.torbox("curl", "-sS", self._network.site_url)
        check(code == 125 and "torbox:" in output, "torbox does not start the program, and says why")
        check(len(self._network.site_visits()) == visits, "and nothing has left")


def heading(text: str) -> None:
    CONSOLE.print(f"\n[bold cyan]{text}[/]")


def check(holds: bool, what: str) -> None:
    if not holds:
        raise DemoError(what)
    CONSOLE.print(f"  [green]✓[/] {escape(what)}")


def main() -> int:
    begin = time.monotonic()
    CONSOLE.print(Panel("torbox: any program, no way out but Tor", expand=False))
    with tempfile.TemporaryDirectory(prefix="torbox-demo-") as directory, people() as everyone:
        with CONSOLE.status("starting a private Tor network on this machine (10 to 20 s)"):
            network = TorNetwork(Path(directory, "network"))
            network.start()
        try:
            Demo(everyone[0], network).show()
        finally:
            network.stop()
    CONSOLE.print(f"\nAll of it held, in {time.monotonic() - begin:.0f} s.")
    return 0


def run(job: Callable[[], int]) -> int:
    try:
        return job()
    except DemoError as error:
        CONSOLE.print(f"  [red]✗ this did not hold: {escape(str(error))}[/]")
    except TornetError as error:
        CONSOLE.print(f"[red]The private Tor network did not start: {escape(str(error))}[/]")
    except KeyboardInterrupt:
        CONSOLE.print("interrupted")
    return 1


if __name__ == "__main__":
    sys.exit(run(main))
