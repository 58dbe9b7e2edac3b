# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole relay between a hostile guest and a whimsical upstream: nothing raises, bounds hold, all is let go.

    python -m tests.fuzz.relay [--seconds S] [--seed N]

The frames are those of frames.py, and DNS questions of nearly every form, by UDP and by TCP.
"""

from __future__ import annotations

import argparse
import random
import struct
import time
from collections import Counter

from tests.fuzz.engine import BATCHES, tapes
from tests.fuzz.frames import GATEWAYS, Frames
from tests.fuzz.victim import GUESTS, PASSES_S
from tests.fuzz.whims import WhimsicalUpstream
from tests.support import command
from torbox.netstack.stack import MAX_TO_GATEWAY, StackConfig
from torbox.netstack.testing import Guest, MemoryDevice
from torbox.netstack.wire import tcp
from torbox.relay.policy import Rules
from torbox.relay.reactor import Reactor
from torbox.relay.relay import Relay

EPISODE = 1500  # frames
CONNECTIONS, HALF_OPEN, FINISHED, ASSOCIATIONS = 30, 8, 4, 6  # bounds, so small that they are met
TURNS_TO_END = 400  # of 20 s each: longer than anything waits
TIMERS_LEFT = 600  # cancelled ones among them; they go when they are due
DNS = 53
HEADERS = (0x100, 0x100, 0x8000, 0x2800)
LABELS = (b" ", b"a", b"ip6", b"arpa", b"in-addr", b"1", "ﷺ".encode(), b"onion", b"localhost", b"test")
NIBBLES = (b" ", b"1", b"f", b"\t")
ADDITIONAL = (b"", b"\0\0\x29\xff\xff\0\0\0\0\0\0", b"\xc0\x0c")  # nothing; EDNS; a pointer to nowhere
BY_TCP = (
    b"\0\x1d\0\7\1\0\0\1\0\0\0\0\0\0\7example\4test\0\0\1\0\1",
    b"\0\2\0\0",  # a message shorter than a header
    b"\xff\xff",
    b"\0\0",
)


class Episode:
    """`run` raises whatever is broken."""

    def __init__(self, seed: int, conversations: list[list[bytes]]) -> None:
        self._dice = dice = random.Random(seed)
        self.now = 10.0
        self.reactor = Reactor(lambda: self.now)
        whole = seed % 4 != 0
        self.device = MemoryDevice(1500, gso=whole, checksums=whole)
        self.upstream = WhimsicalUpstream(dice, takes_names=seed % 2 == 0)
        loopback = {GATEWAYS[0]: bytes((127, 0, 0, 1)), GATEWAYS[1]: bytes(15) + b"\1"}
        self.relay = Relay(
            self.device,
            self.upstream,
            self.reactor,
            stack_config=StackConfig(max_connections=CONNECTIONS, max_half_open=HALF_OPEN),
            rules=Rules(takes_names=self.upstream.takes_names),
            dns_mode="names" if self.upstream.takes_names else "tor",
            hosts={b"h.x": (b"\1\2\3\4",)},
            loopback=loopback if seed % 3 == 0 else {},
            max_finished=FINISHED,
            max_associations=ASSOCIATIONS,
            spin=False,
        )
        self.stack = self.relay.stack
        self._frames = Frames(dice, self, conversations)  # type: ignore[arg-type]  # has what it looks at
        self._guests = [Guest(self.device, address) for address in GUESTS]

    def run(self) -> None:
        dice, left = self._dice, EPISODE
        while left > 0:
            for _ in range(dice.choice(BATCHES)):
                left -= 1
                self._send()
            self.upstream.act()
            self._turn()
            self.now += dice.choice(PASSES_S + (0.001,) * 8)
            self._check()
        self._end()

    def _send(self) -> None:
        whim = self._dice.random()
        if whim < 0.05:
            self._ask()
        elif whim < 0.1:
            self._ask_by_tcp()
        else:
            self.device.from_guest.append(self._frames.make())

    def _turn(self) -> None:
        self.relay._tun_readable = True  # the device has no descriptor that would say so
        self.relay.turn(self.reactor.now)
        self.device.to_guest.clear()

    def _ask(self) -> None:
        dice = self._dice
        labels = [
            dice.choice((*LABELS, dice.randbytes(dice.randrange(1, 64)))) for _ in range(dice.randrange(10))
        ]
        if dice.random() < 0.3:
            labels = [dice.choice(NIBBLES) for _ in range(32)] + [b"ip6", b"arpa"]
        counts = (dice.choice((1, 1, 1, 0, 2)), 0, 0, dice.choice((0, 1, 9)))
        name = b"".join(bytes([len(label)]) + label for label in labels)
        kind = dice.choice((1, 28, 12, 65))
        query = struct.pack("!HHHHHH", 7, dice.choice(HEADERS), *counts) + name
        query += struct.pack("!xHH", kind, 1) + dice.choice(ADDITIONAL)
        which = dice.randrange(2)
        self._guests[which].send_datagram(GATEWAYS[which], (dice.randrange(65536), DNS), query)

    def _ask_by_tcp(self) -> None:
        """On a connection that there is, or one more."""
        dice = self._dice
        there = [each for each in self.stack.connections.values() if each.key.remote_port == DNS]
        if not there:
            which = dice.randrange(2)
            ports = (dice.randrange(1000, 1010), DNS)
            self._guests[which].send_segment(GATEWAYS[which], ports, 5, 0, tcp.SYN, 60_000)
            return
        found = dice.choice(there)
        addresses = found.key.guest_address + found.key.remote_address
        ports_sent = struct.pack("!HH", found.key.guest_port, DNS)
        options = (
            b"" if not found.timestamps else b"\1\1\x08\x0a" + struct.pack("!II", found.timestamps.recent, 0)
        )
        flags = tcp.ACK | tcp.PSH | (tcp.FIN if dice.random() < 0.2 else 0)
        text = dice.choice(BY_TCP) * dice.randrange(1, 30)
        packet = tcp.emit(
            addresses, ports_sent, found.receiver.nxt, found.sender.nxt, flags, 60_000, options, text
        )
        self.device.from_guest.append(bytes(10) + packet)

    def _check(self) -> None:
        relay, stack = self.relay, self.stack
        assert len(relay.associations) == len(self.upstream.datagrams) <= ASSOCIATIONS
        assert len(relay._finished) <= FINISHED + 1
        assert len(self.upstream.streams) <= relay.counters.flows  # the rest ask for names
        assert stack.half_open.waiting <= HALF_OPEN + MAX_TO_GATEWAY
        assert len(stack.connections) <= CONNECTIONS

    def _end(self) -> None:
        """Every guest's program ends and every far end does: then nothing may be left of anybody."""
        for _ in range(TURNS_TO_END):
            self.device.from_guest.clear()
            for connection in list(self.stack.connections.values()):
                connection.abort()
                self.stack.mark(connection)
            for stream in list(self.upstream.streams):
                if stream.is_open and stream.guest_finished and not stream.far_finished:
                    stream.finish()
            self.now += 20
            self._turn()
        assert (self.relay.counters.flows, len(self.upstream.streams)) == (0, 0), "a flow is left"
        assert len(self.reactor._timers) <= TIMERS_LEFT
        self.relay.close()
        self.reactor.close()


def fuzz(seconds: float, seed: int) -> Counter[str]:
    """Episodes until the time is over, one at least; what was done, counted. AssertionError has the seed."""
    conversations, done = tapes(), Counter[str]()
    end = time.monotonic() + seconds
    while not done or time.monotonic() < end:
        number = seed * 1_000_003 + done["episodes"]
        episode = Episode(number, conversations)
        try:
            episode.run()
        except Exception as error:
            raise AssertionError(f"episode {number}") from error
        counters = episode.relay.counters
        done += Counter(
            episodes=1,
            streams=episode.upstream.opened,
            queries=counters.queries,
            datagrams=counters.datagrams_from_guest,
        )
    return done


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz.relay", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(31))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    print(", ".join(f"{count:,} {what}" for what, count in fuzz(options.seconds, options.seed).items()))
    return 0


if __name__ == "__main__":
    command.run(main)
