# SPDX-License-Identifier: GPL-3.0-or-later
"""A private Tor network on loopback, made of the real tor, for tests, the demo and developers.

    client ─► three hops of: auth1 auth2 auth3 (authorities and exits), relay ─► exit ─► site
       └────► onion service, hosted by the client ──────────────────────────────────────► site
                                                     exits ask ─► names (a DNS server of our own)

`TorNetwork` (network.py) is the whole of it; `python -m tests.tornet` runs one until Ctrl-C, the
fixture `tornet` (plugin.py) gives one to a test session. All visitors come from 127.0.0.1, so the
site looks up whose socket it is at the other end: its log names the exit, or shows that a visit came
straight. Everything stays on loopback, runs as the caller, and dies with it.

What it is not: anonymous, or like the public network in size, speed or latency.
"""

from tests.tornet.network import TorNetwork
from tests.tornet.process import TornetError

__all__ = ["TorNetwork", "TornetError"]
