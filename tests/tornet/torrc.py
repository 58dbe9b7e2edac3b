# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of each tor of the network, as text. Every line was tried; few can be left out."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from torbox import this_machine


@dataclasses.dataclass(slots=True)
class Relay:
    """One relay; an authority, and an exit, if it has a directory port."""

    nick: str
    directory: Path
    or_port: int
    dir_port: int = 0
    v3ident: str = ""
    fingerprint: str = ""

    @property
    def is_authority(self) -> bool:
        return self.dir_port != 0

    @property
    def keys(self) -> Path:
        return self.directory / "keys"

    @property
    def authority_line(self) -> str:
        """The line by which every tor of the network knows this authority."""
        return (
            f"DirAuthority {self.nick} orport={self.or_port} no-v2 v3ident={self.v3ident} "
            f"127.0.0.1:{self.dir_port} {self.fingerprint}"
        )


def membership(authorities: list[Relay]) -> str:
    """What any tor needs to use this network instead of the public one, torbox's own tor included."""
    return _lines(
        "TestingTorNetwork 1",
        "AssumeReachable 1",
        "PathsNeededToBuildCircuits 0.67",
        "AddressDisableIPv6 1",
        *(relay.authority_line for relay in authorities),
        "ClientRejectInternalAddresses 0",
        "ClientDNSRejectInternalAddresses 0",
        "ConfluxEnabled 0",  # one circuit per stream, so that circuit ids say what belongs together
    )


def _common(directory: Path, authorities: list[Relay]) -> str:
    return membership(authorities) + _lines(
        f"DataDirectory {directory}",
        "Log notice stdout",
        "SafeLogging 0",
        "ShutdownWaitLength 0",
    )


def exit_policy() -> str:
    """Private networks and the machine's own addresses are refused, as by real exits, but for 127.0.0.1.

    In one policy, since ExitPolicyRejectPrivate and ExitPolicyRejectLocalInterfaces go before it and would
    refuse 127.0.0.1, too. The rest is accepted in name, and fails with EINVAL as said below: a policy's
    summary (dir-spec, "p") has only what is accepted everywhere, and without any nobody takes this exit.
    """
    own = [each for each in this_machine.addresses() if ":" not in each and not each.startswith("127.")]
    refused = ", ".join(f"reject {address}:*" for address in ("private", *own))
    return f"accept 127.0.0.1:*, {refused}, accept *4:*, reject *:*"


def relay_torrc(relay: Relay, authorities: list[Relay], resolv_conf: Path) -> str:
    text = _common(relay.directory, authorities) + _lines(
        f"Nickname {relay.nick}",
        "Address 127.0.0.1",
        f"ORPort 127.0.0.1:{relay.or_port}",
        "SocksPort 0",
        f"__OwningControllerProcess {os.getpid()}",
        # What leaves, leaves by loopback: a connection to any other machine fails with EINVAL.
        "OutboundBindAddress 127.0.0.1",
    )
    if not relay.is_authority:
        # No directory cache: it would learn of a full consensus 1 to 10 s after the authorities, and a
        # client that asks it meanwhile waits for the next one.
        return text + "ExitRelay 0\nDirCache 0\n"
    return text + _lines(
        f"DirPort 127.0.0.1:{relay.dir_port}",
        "AuthoritativeDirectory 1",
        "V3AuthoritativeDirectory 1",
        "ContactInfo nobody@torbox.test",
        "TestingDirAuthVoteExit *",
        "TestingDirAuthVoteGuard *",
        "TestingDirAuthVoteHSDir *",
        "TestingMinExitFlagThreshold 0",
        "TestingV3AuthInitialVotingInterval 5",
        "TestingV3AuthInitialVoteDelay 2",
        "TestingV3AuthInitialDistDelay 2",
        "V3AuthVotingInterval 10",
        "V3AuthVoteDelay 2",
        "V3AuthDistDelay 2",
        "V3AuthNIntervalsValid 2",
        "TestingAuthDirTimeToLearnReachability 0",
        "AuthDirMaxServersPerAddr 0",
        "ExitRelay 1",
        "IPv6Exit 1",
        "ExitPolicyRejectPrivate 0",
        "ExitPolicyRejectLocalInterfaces 0",
        f"ExitPolicy {exit_policy()}",
        "ServerDNSDetectHijacking 0",
        "ServerDNSTestAddresses",
        "ServerDNSAllowBrokenConfig 1",
        "ServerDNSAllowNonRFC953Hostnames 1",
        f"ServerDNSResolvConfFile {resolv_conf}",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Client:
    """The client's places: SOCKS by TCP and by Unix socket, control, and the onion service's target."""

    directory: Path
    listen: str
    socks_port: int
    site: tuple[str, int]

    @property
    def sockets(self) -> Path:
        return self.directory / "sockets"

    @property
    def socks_path(self) -> Path:
        return self.sockets / "socks"

    @property
    def control_path(self) -> Path:
        return self.sockets / "control"

    @property
    def cookie_path(self) -> Path:
        return self.directory / "control_auth_cookie"

    @property
    def onion_directory(self) -> Path:
        return self.directory / "onion"


def client_torrc(client: Client, authorities: list[Relay]) -> str:
    # No __OwningControllerProcess here: stem, if a test uses it and it sees its own process id there, binds
    # tor's life to its control connection (TAKEOWNERSHIP), and tor would end with the first look at it.
    return _common(client.directory, authorities) + _lines(
        f"SocksPort {client.listen}:{client.socks_port} IsolateSOCKSAuth ExtendedErrors",
        f"SocksPort unix:{client.socks_path} IsolateSOCKSAuth ExtendedErrors",
        f"ControlSocket {client.control_path}",
        "CookieAuthentication 1",
        f"CookieAuthFile {client.cookie_path}",
        f"HiddenServiceDir {client.onion_directory}",
        f"HiddenServicePort 80 {client.site[0]}:{client.site[1]}",
    )


def _lines(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)
