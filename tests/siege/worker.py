# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker in a Python of its own, as little as the real one has and as confined, that tells its counters.

python -m tests.siege.worker URL TUN READY STOP TOLD      descriptors; SIGUSR1 writes a line of JSON to TOLD
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from dataclasses import replace
from typing import Any

from torbox.allowance import NOTHING
from torbox.confinement import Confinement
from torbox.netstack.ring import POOL
from torbox.network import reach_of
from torbox.relay import worker
from torbox.relay.relay import Relay
from torbox.report import Report
from torbox.upstream.registry import parse_url

ISOLATION = b"\x55" * 32


def counters_of(relay: Relay) -> dict[str, Any]:
    stack, counted = relay.stack, {}
    for counters in (stack.counters, relay.counters):
        counted.update({name: getattr(counters, name) for name in counters.__slots__})
    counted["refused"] = {why.value: number for why, number in counted["refused"].items()}
    return {
        **counted,
        "connections": len(stack.connections),
        "half_open": len(stack.half_open),
        "time_wait": len(stack._time_wait),
        "timers": len(stack.timers),
        "reassembly": len(stack.reassembly),
        "lent": POOL.lent,
        "registered": len(relay.reactor),
        "descriptors": open_descriptors(),
    }


def open_descriptors() -> int:
    """Asked of poll(2), since a confined process has no /proc."""
    poll = select.poll()
    for number in range(worker.descriptors()):
        poll.register(number, 0)
    closed = sum(bool(events & select.POLLNVAL) for _, events in poll.poll(0))
    return worker.descriptors() - closed


def main() -> int:
    url, (tun, ready, stop, told) = sys.argv[1], map(int, sys.argv[2:6])
    make = worker.make_relay
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is for who started it; the end of `stop` is for this

    def make_relay(*arguments: Any) -> Relay:
        relay = make(*arguments)
        signal.signal(
            signal.SIGUSR1,
            lambda *_: os.write(told, json.dumps(counters_of(relay)).encode() + b"\n") and None,
        )
        return relay

    worker.make_relay = make_relay  # type: ignore[assignment]
    upstream = parse_url(url)
    confinement = Confinement(reach_of(upstream), NOTHING)
    confinement.prepare()
    upstream = replace(upstream, path=confinement.path_of(upstream.path))
    config = worker.WorkerConfig(upstream, ISOLATION)
    return worker.run_worker(config, tun, Report(ready), stop, None, confinement.seal)


if __name__ == "__main__":
    sys.exit(main())
