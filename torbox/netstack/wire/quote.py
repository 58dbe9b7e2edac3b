# SPDX-License-Identifier: GPL-3.0-or-later
"""What an ICMP error quotes: the beginning of the packet that it is about, RFC 792 and RFC 4443 §3."""

from __future__ import annotations

from torbox.netstack.wire import WireError, ip, ipv4, ipv6

TRANSPORT_SIZE = 8  # bytes behind the IP header that are always quoted: ports, and TCP's sequence number


class Quote:
    """Whose packet it was: `addresses` and `ports` of its source and destination, and TCP's `seq`."""

    __slots__ = ("addresses", "ports", "protocol", "seq")

    def __init__(self, addresses: bytes, protocol: int, ports: bytes, seq: int) -> None:
        self.addresses = addresses
        self.protocol = protocol
        self.ports = ports
        self.seq = seq


def parse(version: int, body: memoryview) -> Quote:
    """The quote in the body of an error of the given IP version. It may be cut off behind the ports.

    Quotes of later fragments, and of IPv6 packets with extension headers, which name no ports at the usual
    place, raise WireError: nobody here sends such.
    """
    if version == 4:
        if len(body) < ipv4.HEADER_SIZE or body[0] >> 4 != 4:
            raise WireError("icmp: quotes no packet")
        start = (body[0] & 15) * 4
        protocol, addresses = body[9], bytes(body[12:20])
        first = not int.from_bytes(body[6:8], "big") & ipv4.OFFSET_MASK
    else:
        if len(body) < ipv6.HEADER_SIZE or body[0] >> 4 != 6:
            raise WireError("icmp: quotes no packet")
        start, protocol, addresses, first = ipv6.HEADER_SIZE, body[6], bytes(body[8:40]), True
    transport = body[start : start + TRANSPORT_SIZE]
    if not first or start < ipv4.HEADER_SIZE or len(transport) < TRANSPORT_SIZE:
        raise WireError("icmp: quotes too little")
    if protocol not in (ip.TCP, ip.UDP):
        raise WireError("icmp: quotes no flow")
    return Quote(addresses, protocol, bytes(transport[:4]), int.from_bytes(transport[4:8], "big"))
