# SPDX-License-Identifier: GPL-3.0-or-later
"""One interleaved run: in each round every contestant does every piece of work, in an order that rotates.

So a minute in which the machine is busy with something else falls on all alike. Nothing is repeated until
it looks well: a failure is noted with its reason and the run goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.contestants import Contestant
from tests.bench.load import SETTLE_S, Figures, NotMeasured, Ports
from tests.bench.rows import OURS, Results

GIGA = 1e9
LARGE = 10_000  # connections
MEGA = 1e6
REPLY_S = 25.0  # behind the time of the work itself: for what is on its way to drain, or to be given up


@dataclass(frozen=True)
class Sizes:
    """How much work: a real run, or a short one that only shows that all of it works."""

    bulk_ms: int = 1500
    requests_ms: int = 1500
    pings: int = 4000
    held: Sequence[int] = (1000, 10_000)
    starts: int = 30  # of each, in all rounds together
    socks_bytes: int = 1_000_000_000
    tor_bytes: int = 10_000_000
    first_bytes: int = 10  # of each and in each round, every one through circuits of its own


SHORT = Sizes(
    bulk_ms=100,
    requests_ms=100,
    pings=50,
    held=(20,),
    starts=1,
    socks_bytes=10**6,
    tor_bytes=10**5,
    first_bytes=1,
)

Say = Callable[[str], None]


class Session:
    def __init__(self, load: Path, sizes: Sizes, results: Results, say: Say) -> None:
        self._load = str(load)
        self._sizes = sizes
        self._results = results
        self._say = say

    def direct_round(self, contestants: Sequence[Contestant], ports: Ports, number: int, rounds: int) -> None:
        sizes = self._sizes
        for each in rotated(contestants, number):
            self._bulk(each, ports, "", cpu=True)
        for each in rotated(contestants, number):
            self._requests(each, ports, "")
        for held in sizes.held:
            for each in rotated(contestants, number):
                # The peers need a minute to fail at the larger number, which once is enough to see.
                if each.stack is not None and (held < LARGE or each.name == OURS or not number):
                    self._hold(each, ports, held)
        for _ in range(max(1, sizes.starts // rounds)):
            for each in rotated(contestants, number):
                self._start(each)

    def socks_round(self, contestants: Sequence[Contestant], ports: Ports, proxy: int, number: int) -> None:
        for each in rotated(contestants, number):
            url = f"http://{each.host}:{ports.source}/{self._sizes.socks_bytes}"
            options = ("--proxy", f"socks5h://127.0.0.1:{proxy}") if each.name == "curl" else ()
            self._curl("socks_bulk", each, url, 8 / GIGA, options)
        for each in rotated([it for it in contestants if it.name != "curl"], number):
            self._bulk(each, ports, "socks_", cpu=False)
            self._requests(each, ports, "socks_")

    def tor_round(
        self, contestants: Sequence[Contestant], name: str, socks: str, port: int, number: int
    ) -> None:
        url = f"http://{name}:{port}/{self._sizes.tor_bytes}"
        for each in rotated(contestants, number):
            options = ("--proxy", f"socks5h://{own_circuit(socks)}") if each.name == "curl" else ()
            self._curl("tor_bulk", each, url, 8 / MEGA, options)
        first = f"http://{name}:{port}/1"
        for _ in range(self._sizes.first_bytes):
            for each in rotated(contestants, number):
                options = ("--proxy", f"socks5h://{own_circuit(socks)}") if each.name == "curl" else ()
                self._curl("tor_first", each, first, 1000, options, "time_starttransfer")

    # -- pieces of work ----------------------------------------------------------------------------

    def _try(
        self, each: Contestant, keys: Sequence[str], timeout_s: float, *words: object, again: bool = False
    ) -> Figures | None:
        self._say(f"{each.name}: {words[0]} {words[3] if len(words) > 3 else ''}")
        command = [self._load, *map(str, words)]
        try:
            return each.run(command, timeout_s=timeout_s + REPLY_S, again=again)
        except NotMeasured as error:
            for key in keys:
                self._results.fail(key, each.name, str(error))
            return None

    def _bulk(self, each: Contestant, ports: Ports, prefix: str, *, cpu: bool) -> None:
        add, ms = self._results.add, self._sizes.bulk_ms
        for way, port in (("up", ports.sink), ("down", ports.source)):
            for streams in (1, 8):
                keys = [f"{prefix}{way}{streams}", *([f"cpu_{way}"] if cpu and streams == 1 else [])]
                found = self._try(each, keys, ms / 1000, way, each.host, port, streams, ms)
                if found is None:
                    continue
                moved = found.values["bytes"]
                add(keys[0], each.name, moved * 8 / found.values["seconds"] / GIGA)
                if len(keys) > 1 and each.stack is not None and moved:
                    add(keys[1], each.name, found.cpu_s / (moved / GIGA))

    def _requests(self, each: Contestant, ports: Ports, prefix: str) -> None:
        add, ms = self._results.add, self._sizes.requests_ms
        for clients in (1, 50):
            key = f"{prefix}requests{clients}"
            found = self._try(each, [key], ms / 1000, "requests", each.host, ports.ask, clients, ms)
            if found is not None:
                add(key, each.name, found.values["requests"] / found.values["seconds"])
                if each.stack is not None and not prefix and found.values["requests"]:
                    add(f"cpu_{key}", each.name, found.cpu_s / found.values["requests"] * 1e6)
                if found.values["broken"]:
                    self._results.fail(key, each.name, f"{found.values['broken']:.0f} broken")
        # Through a proxy in two writes, as many servers answer: its Nagle may cost 44 ms a request.
        how = "H" if prefix else "K"
        keys = [f"{prefix}p50", f"{prefix}p99"]
        found = self._try(each, keys, 10, "ping", each.host, ports.ask, self._sizes.pings, 3000, how)
        if found is not None:
            add(keys[0], each.name, found.values["p50"])
            add(keys[1], each.name, found.values["p99"])

    def _hold(self, each: Contestant, ports: Ports, held: int) -> None:
        keys = [f"held{held}", f"rss{held}", f"pss{held}"]
        found = self._try(each, keys, 10, "hold", each.host, ports.ask, held, again=True)
        if found is not None:
            self._results.add(keys[0], each.name, found.values["answered"])
            self._results.add(keys[1], each.name, found.rss / MEGA)
            if found.pss:
                self._results.add(keys[2], each.name, found.pss / MEGA)

    def _start(self, each: Contestant) -> None:
        if each.name == "slirp4netns":
            self._results.fail("start", each.name, "it starts no program by itself")
            return
        begin = time.perf_counter()
        try:
            each.output(["true"], timeout_s=30)
        except NotMeasured as error:
            self._results.fail("start", each.name, str(error))
        else:
            self._results.add("start", each.name, (time.perf_counter() - begin) * 1000)

    def _curl(
        self,
        key: str,
        each: Contestant,
        url: str,
        unit: float,
        options: Sequence[str] = (),
        measured: str = "speed_download",
    ) -> None:
        """`measured` is a variable of curl's --write-out, and `unit` what it is multiplied with."""
        self._say(f"{each.name}: curl")
        wanted = f"%{{{measured}}} %{{size_download}}"
        curl = ["curl", "-sS", "-o", "/dev/null", "--max-time", "60", "-w", wanted, *options, url]
        command = ["sh", "-c", f'sleep {SETTLE_S}; exec "$@"', "-", *curl]
        try:
            figure, size = map(float, each.output(command, timeout_s=90).split())
            if size != float(url.rpartition("/")[2]):
                raise NotMeasured(f"only {size:.0f} bytes came")
        except NotMeasured as error:
            self._results.fail(key, each.name, str(error))
            return
        self._results.add(key, each.name, figure * unit)


def own_circuit(socks: str) -> str:
    """A user name of its own is a circuit of its own, which is what every sandbox has."""
    return f"{os.urandom(8).hex()}:x@{socks}"


def rotated(contestants: Sequence[Contestant], number: int) -> Sequence[Contestant]:
    at = number % len(contestants)
    return [*contestants[at:], *contestants[:at]]
