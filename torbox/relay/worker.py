# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker process: one tun queue, one stack, one upstream, one loop.

The parent forks it with a tun descriptor, a pipe to tell that it is ready, and a descriptor whose end of
file (or any byte) tells it to stop: when the parent dies, so does the worker, even without a signal. The
pipe is held until it is sealed, so that what keeps it from that can be said. It
prints nothing and logs nothing. What it was given is plain values, so that it can be started by fork
or by exec alike.

What the parent or the child's first lines see to, before `run_worker`: PR_SET_PDEATHSIG, the signals of
the terminal, closing descriptors, what can be done of its confinement by then. `seal` does the rest: it
is called when all that the process needs is read and open, and before the first packet is read. What nobody
waits for, the import of the DNS library, is done right before it, while the program is being executed.
"""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torbox.errors import TorboxError
from torbox.netstack.capture import CaptureError, CapturingDevice
from torbox.netstack.device import Device, TunDevice
from torbox.netstack.dns import LOOPBACK4, LOOPBACK6
from torbox.netstack.name_board import Section
from torbox.netstack.stack import StackConfig
from torbox.relay.association import MAX_ASSOCIATIONS
from torbox.relay.memory import Memory
from torbox.relay.policy import Rules, network
from torbox.relay.reactor import Reactor
from torbox.relay.relay import MAX_FINISHED, Relay
from torbox.report import CAPTURE_LOST, Report
from torbox.upstream.interface import Upstream
from torbox.upstream.registry import open_upstream
from torbox.upstream.url import UpstreamUrl

DEFAULTS = StackConfig()
COLLECT_AT = 20_000  # new objects; a connection that ends leaves none behind for the collector
DATAGRAM_SHARE = 8  # one in so many descriptors may be a UDP socket
FINISHED_SHARE = 2  # one in so many descriptors may be held by what guests have left behind


@dataclass(frozen=True)
class WorkerConfig:
    """Everything a worker must know. Addresses are packed; networks are text as in "10.0.0.0/8"."""

    upstream: UpstreamUrl  # its host is an address: see registry.with_address
    isolation: bytes = field(repr=False)  # tor.new_isolation(), one per sandbox
    mtu: int = 65520
    vnet_hdr: bool = True
    gso: bool = True
    gateways: tuple[bytes, ...] = DEFAULTS.own
    guests: tuple[bytes, ...] = ()  # the guest's addresses; none: any
    broadcasts: tuple[bytes, ...] = DEFAULTS.broadcasts
    dns_mode: str = "names"
    ipv6: bool = True  # the guest has IPv6, so names may have IPv6 addresses
    hosts: tuple[tuple[bytes, tuple[bytes, ...]], ...] = ()
    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    own: tuple[str, ...] = ()  # this machine's addresses and names, if the upstream may be beside them
    own_names: tuple[bytes, ...] = ()
    spin: bool = True  # see Relay
    routing: bool = False  # lets an upstream out that connects from this machine itself
    host_loopback: bool = False  # the gateways' ports, but for DNS, are those of this machine's loopback


def run_worker(
    config: WorkerConfig,
    device_fd: int,
    report: Report,
    stop_fd: int,
    section: Section | None = None,
    seal: Callable[[], None] | None = None,
    capture_fd: int = -1,
) -> int:
    """Serve until `stop_fd` says or the tun is gone; the exit status, 0, 1 or CAPTURE_LOST.

    The report is closed once it is sealed.
    `section` is this worker's share of the names, if the tun has several queues. It raises what `seal` does.
    All packets are written to `capture_fd`, unless that is negative; see CapturingDevice.
    """
    stopped: list[int] = []
    try:
        raise_descriptor_limit()
        reactor = Reactor()
        relay = make_relay(config, device_fd, reactor, section, capture_fd)
        reactor.register(stop_fd, stopped.append)
    except (TorboxError, OSError, ValueError) as error:
        report.failed(str(error))
        return 1

    def seal_and_be_silent() -> None:
        if seal is not None:
            seal()
        report.close()

    try:
        if report.ready():
            serve(relay, stopped, seal_and_be_silent)
            if capture_fd >= 0:  # what the program sent right before its end belongs into the capture
                while relay.stack.receive(relay.reactor.now):
                    pass
    except CaptureError:
        return CAPTURE_LOST
    except OSError as ended:  # reading or writing the tun: its namespace is gone, or its interface is down
        report.failed(str(ended))  # only of what came before it was sealed
        return 0 if stopped else 1
    finally:
        relay.close()
        reactor.close()
    return 0


def serve(relay: Relay, stopped: list[int], seal: Callable[[], None]) -> None:
    """Turn after turn, until something is in `stopped`; what was put off is done before."""
    relay.names.warm_up()
    memory = Memory(relay)
    seal()
    gc.enable()
    gc.freeze()
    gc.set_threshold(COLLECT_AT, 20, 20)
    try:
        while not stopped:
            relay.turn()
    finally:
        memory.close()


def make_relay(
    config: WorkerConfig,
    device_fd: int,
    reactor: Reactor,
    section: Section | None = None,
    capture_fd: int = -1,
) -> Relay:
    """Everything put together. TorboxError, OSError or ValueError: the configuration does not work here."""
    os.set_blocking(device_fd, False)
    device: Device = TunDevice(device_fd, config.mtu, vnet_hdr=config.vnet_hdr, gso=config.gso)
    if capture_fd >= 0:
        device = CapturingDevice(device, capture_fd, time.time)
    upstream = open_upstream(config.upstream, reactor, config.isolation)
    locked = upstream.needs_routing and not config.routing
    rules = Rules(
        takes_names=upstream.takes_names,
        takes_onions=upstream.takes_onions,
        takes_ipv6=upstream.takes_ipv6 and config.ipv6,
        allowed=tuple(map(network, config.allowed)),
        denied=tuple(map(network, config.denied)),
        own=tuple(map(network, config.own)),
        own_names=frozenset(config.own_names),
        locked=locked,
    )
    return Relay(
        device,
        upstream,
        reactor,
        stack_config=StackConfig(own=config.gateways, guests=config.guests, broadcasts=config.broadcasts),
        rules=rules,
        dns_mode=_dns_mode(config.dns_mode, upstream, locked),
        loopback=_loopback(config.gateways) if config.host_loopback and upstream.needs_routing else {},
        hosts=dict(config.hosts),
        max_finished=min(MAX_FINISHED, descriptors() // FINISHED_SHARE),
        max_associations=max(min(MAX_ASSOCIATIONS, descriptors() // DATAGRAM_SHARE), 1),
        section=section,
        spin=config.spin,
    )


def _dns_mode(wanted: str, upstream: Upstream, locked: bool) -> str:
    """Names that the upstream does not take must be resolved; and for nothing that may not go out."""
    if locked:
        return "off"
    return "tor" if wanted == "names" and not upstream.takes_names else wanted


def _loopback(gateways: tuple[bytes, ...]) -> dict[bytes, bytes]:
    """Which address of this machine's loopback each gateway's address is."""
    return {gateway: LOOPBACK4 if len(gateway) == 4 else LOOPBACK6 for gateway in gateways}


def descriptors() -> int:
    """How many this process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_descriptor_limit() -> None:
    """Each connection holds a socket: take all the descriptors that may be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
