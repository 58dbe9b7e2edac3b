# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker in a Python of its own, as little as the real one has, that tells its counters when asked.

python -m tests.siege.worker URL TUN READY STOP TOLD      descriptors; SIGUSR1 writes a line of JSON to TOLD
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from torbox.netstack.ring import POOL
from torbox.relay import worker
from torbox.relay.relay import Relay
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
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def main() -> int:
    url, (tun, ready, stop, told) = sys.argv[1], map(int, sys.argv[2:6])
    make = worker.make_relay

    def make_relay(*arguments: Any) -> Relay:
        relay = make(*arguments)
        signal.signal(
            signal.SIGUSR1,
            lambda *_: os.write(told, json.dumps(counters_of(relay)).encode() + b"\n") and None,
        )
        return relay

    worker.make_relay = make_relay  # type: ignore[assignment]
    config = worker.WorkerConfig(parse_url(url), ISOLATION)
    return worker.run_worker(config, tun, ready, stop)


if __name__ == "__main__":
    sys.exit(main())
