# SPDX-License-Identifier: GPL-3.0-or-later
"""UDP: each datagram is offered to the owner, and what it does not take is refused at once.

Refusing at once is what makes a browser give up QUIC without waiting. There is no state here; flows with
idle time-outs belong to whoever takes datagrams (relay/association.py).
"""

from __future__ import annotations

from collections.abc import Callable

from torbox.netstack.egress import Egress
from torbox.netstack.flow import FlowKey
from torbox.netstack.icmp import Icmp
from torbox.netstack.wire import WireError, udp, vnet
from torbox.netstack.wire.ip import Packet

MAX_SEGMENTS = 128  # datagrams in one super-packet: UDP_MAX_SEGMENTS of Linux

Arrived = Callable[[FlowKey, memoryview], bool]


class Udp:
    def __init__(self, egress: Egress, icmp: Icmp, arrived: Arrived) -> None:
        self._egress = egress
        self._icmp = icmp
        self._arrived = arrived
        self.may_fragment = False  # whether the datagram that is being offered may be cut on its way

    def arrives(
        self, packet: Packet, frame: vnet.VnetHeader, now: float, *, fragmented: bool = False
    ) -> None:
        """`fragmented`: the packet came in fragments, so its sender does not mind more of them."""
        if self._icmp.expires(packet, now):
            return
        datagram = udp.parse(packet, verify=not frame.flags & vnet.NEEDS_CSUM)
        key = FlowKey(packet.source, datagram.source_port, packet.destination, datagram.destination_port)
        payload = datagram.payload
        self.may_fragment = fragmented or (
            packet.version == 4 and not packet.buffer[packet.header + 6] & 0x40
        )
        if frame.gso_type != vnet.GSO_UDP_L4:
            if not self._arrived(key, payload):
                self._icmp.port_unreachable(packet, now)
            return
        step = frame.gso_size
        if not step or len(payload) > step * MAX_SEGMENTS:
            raise WireError("udp: impossible super-packet")
        taken = [self._arrived(key, payload[at : at + step]) for at in range(0, len(payload), step)]
        if not all(taken):
            self._icmp.port_unreachable(packet, now)

    def send(self, key: FlowKey, payload: bytes | memoryview) -> bool:
        """A datagram from the flow's remote end to the guest; false if no datagram can be so large."""
        addresses = key.remote_address + key.guest_address
        return self._egress.datagram(addresses, key.remote_port, key.guest_port, payload)
