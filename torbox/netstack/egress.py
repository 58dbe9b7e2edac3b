# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets on their way to the guest: the virtio header that goes before them, and who does the checksum."""

from __future__ import annotations

from collections.abc import Sequence

from torbox.netstack.counters import Counters
from torbox.netstack.device import Device
from torbox.netstack.wire import ip, ipv4, ipv6, tcp, udp, vnet

IPV4_FIRST = 0x45  # an IPv4 header without options begins so

# The kernel finishes the TCP checksum; the packet is not to be cut.
WHOLE_V4 = vnet.emit(flags=vnet.NEEDS_CSUM, csum_start=20, csum_offset=tcp.CHECKSUM_OFFSET)
WHOLE_V6 = vnet.emit(flags=vnet.NEEDS_CSUM, csum_start=40, csum_offset=tcp.CHECKSUM_OFFSET)
DATAGRAM_V4 = vnet.emit(flags=vnet.NEEDS_CSUM, csum_start=20, csum_offset=udp.CHECKSUM_OFFSET)
DATAGRAM_V6 = vnet.emit(flags=vnet.NEEDS_CSUM, csum_start=40, csum_offset=udp.CHECKSUM_OFFSET)


class Egress:
    def __init__(self, device: Device, counters: Counters) -> None:
        self._device = device
        self._counters = counters
        self._identification = 0  # of the last fragmented packet

    def _write(self, parts: list[bytes | memoryview], size: int) -> None:
        counters = self._counters
        if self._device.write(parts):
            counters.packets_to_guest += 1
            counters.bytes_to_guest += size
        else:
            counters.unsent += 1

    def packet(self, packet: bytes) -> None:
        """A whole packet with nothing left to do."""
        self._write([vnet.NONE, packet], len(packet))

    def segment(self, headers: bytes, views: Sequence[memoryview], size: int, mss: int) -> None:
        """A TCP segment with `size` bytes in `views`; a super-packet when that is more than `mss`.

        `headers` are those of IP and TCP, from a HeaderTemplate: options included, the checksum partial.
        """
        v4 = headers[0] == IPV4_FIRST
        if size > mss:
            before = vnet.HEADER.pack(
                vnet.NEEDS_CSUM,
                vnet.GSO_TCPV4 if v4 else vnet.GSO_TCPV6,
                len(headers),
                mss,
                20 if v4 else 40,
                tcp.CHECKSUM_OFFSET,
            )
        elif self._device.checksums:
            before = WHOLE_V4 if v4 else WHOLE_V6
        else:
            before = vnet.NONE
            headers = tcp.complete_checksum(headers, 20 if v4 else 40, views)
        if self._device.write([before, headers, *views]):  # as _write does; most packets come by here
            counters = self._counters
            counters.packets_to_guest += 1
            counters.bytes_to_guest += len(headers) + size
        else:
            self._counters.unsent += 1

    def datagram(
        self, addresses: bytes, source_port: int, destination_port: int, payload: bytes | memoryview
    ) -> bool:
        """A UDP datagram, in fragments if the MTU asks for it; false if no datagram can be so large."""
        if len(payload) > udp.MAX_PAYLOAD:
            return False
        v4 = len(addresses) == 8
        form, ip_size = (ipv4, 20) if v4 else (ipv6, 40)
        mtu = self._device.mtu
        size = udp.HEADER_SIZE + len(payload)
        partial = self._device.checksums and ip_size + size <= mtu
        header = udp.header(addresses, source_port, destination_port, payload, partial=partial)
        if ip_size + size <= mtu:
            before = (DATAGRAM_V4 if v4 else DATAGRAM_V6) if partial else vnet.NONE
            self._write([before, form.emit(addresses, ip.UDP, size) + header, payload], ip_size + size)
            return True
        self.message(addresses, ip.UDP, header + bytes(payload))
        return True

    def message(self, addresses: bytes, protocol: int, message: bytes) -> None:
        """A transport's message with nothing left to do, in fragments if the MTU asks for it."""
        form, ip_size = (ipv4, 20) if len(addresses) == 8 else (ipv6, 40)
        if ip_size + len(message) <= self._device.mtu:
            self.packet(form.emit(addresses, protocol, len(message)) + message)
            return
        self._identification = (self._identification + 1) & 0xFFFF
        for piece in form.fragments(addresses, protocol, message, self._device.mtu, self._identification):
            self.packet(piece)
