# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys that must exist before the first torrc can be written: each names the others by fingerprint."""

from __future__ import annotations

import os
from pathlib import Path

from tests.tornet.process import Process, TornetError, find_program
from tests.tornet.torrc import Relay

_DEADLINE_S = 30.0  # 2 to 3 s on two idle cores: an RSA key of 3072 bits per authority


def make_keys(relays: list[Relay]) -> None:
    """Make every relay's keys, all at once, and write the fingerprints into `relays`."""
    authorities = [relay for relay in relays if relay.is_authority]
    gencerts = [_start_gencert(relay) for relay in authorities]
    for gencert in gencerts:
        gencert.finish(_DEADLINE_S)
    for relay in authorities:
        relay.v3ident = _v3ident(relay.keys / "authority_certificate")
    listings = [_start_listing(relay) for relay in relays]
    for listing in listings:
        listing.finish(_DEADLINE_S)
    for relay in relays:
        # "NICKNAME FINGERPRINT"
        relay.fingerprint = (relay.directory / "fingerprint").read_text().split()[1]


def _start_gencert(relay: Relay) -> Process:
    relay.keys.mkdir(mode=0o700, parents=True)
    passphrase, writer = os.pipe()
    os.write(writer, b"no secret: thrown away with the network\n")
    os.close(writer)
    argv = [find_program("tor-gencert", "tor"), "--create-identity-key", "--passphrase-fd", str(passphrase)]
    argv += ["-m", "12", "-a", f"127.0.0.1:{relay.dir_port}"]
    for option, name in (("-i", "identity_key"), ("-s", "signing_key"), ("-c", "certificate")):
        argv += [option, str(relay.keys / f"authority_{name}")]
    try:
        return Process(
            f"tor-gencert of {relay.nick}", argv, relay.directory / "gencert.log", keep=[passphrase]
        )
    finally:
        os.close(passphrase)


def _v3ident(certificate: Path) -> str:
    for line in certificate.read_text().splitlines():
        if line.startswith("fingerprint "):
            return line.split()[1]
    raise TornetError(f"{certificate} has no fingerprint line")


def _start_listing(relay: Relay) -> Process:
    relay.directory.mkdir(mode=0o700, exist_ok=True)
    placeholder = relay.directory / "torrc.keys"
    placeholder.write_text(
        f"DataDirectory {relay.directory}\n"
        f"Nickname {relay.nick}\n"
        f"Address 127.0.0.1\n"
        f"ORPort 127.0.0.1:{relay.or_port}\n"
        "ExitRelay 0\n"
        "DirAuthority placeholder 127.0.0.1:1 ffffffffffffffffffffffffffffffffffffffff\n"
    )
    argv = [find_program("tor", "tor"), "--quiet", "--defaults-torrc", os.devnull]
    argv += ["-f", str(placeholder), "--list-fingerprint"]
    return Process(f"tor --list-fingerprint of {relay.nick}", argv, relay.directory / "fingerprint.log")
