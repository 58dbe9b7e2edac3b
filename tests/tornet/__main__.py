# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m tests.tornet`: run the private network until Ctrl-C, and say what to use.

With --json one object on one line is printed when the network is ready, for a program that started
it elsewhere (in a network namespace of its own, say). SIGTERM ends it as Ctrl-C does.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from tests.tornet.network import TorNetwork
from tests.tornet.process import TornetError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tornet", description="A private Tor network.")
    parser.add_argument("--directory", type=Path, help="where it lives; must be empty, is removed at the end")
    parser.add_argument("--listen", default="127.0.0.1", help="address of the client's SocksPort")
    parser.add_argument("--no-onion", action="store_true", help="do not wait for the onion service")
    parser.add_argument("--json", action="store_true", help="say what to use as one line of JSON")
    options = parser.parse_args()
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        if not options.json:
            print("starting a private Tor network (9 to 20 s) …", flush=True)
        with TorNetwork(options.directory, listen=options.listen, onion=not options.no_onion) as network:
            signal.pthread_sigmask(signal.SIG_BLOCK, signals)
            print(json.dumps(network.described()) if options.json else told(network), flush=True)
            signal.sigwait(signals)
    except KeyboardInterrupt:
        return 0
    except (TornetError, OSError) as error:
        print(f"tornet: {error}", file=sys.stderr)
        return 1
    return 0


def told(network: TorNetwork) -> str:
    facts = network.described()
    rows = "\n".join(f"  {name:<15} {text}" for name, text in facts.items())
    return (
        f"{rows}\n\ntry:\n  torbox run --upstream tor://{facts['socks']} -- curl {facts['site_url']}\n"
        f"  torbox run --upstream tor://{facts['socks']} -- curl {facts['onion_url']}\n"
        f"\nor by curl's own SOCKS, without torbox:\n"
        f"  curl --socks5-hostname {facts['socks']} {facts['site_url']}\n"
        f"  curl --socks5-hostname {facts['socks']} --cacert {facts['ca_path']} {facts['site_tls_url']}\n"
        f"  curl --socks5-hostname {facts['socks']} {facts['onion_url']}\n\nCtrl-C ends it."
    )


if __name__ == "__main__":
    sys.exit(main())
