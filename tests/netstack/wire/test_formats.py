# SPDX-License-Identifier: GPL-3.0-or-later
"""Wire formats against impacket, which knows nothing of us: what we emit it reads, what it emits we read."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from impacket import ICMP6, IP6, ImpactDecoder, ImpactPacket

from torbox.netstack.wire import WireError, icmpv4, icmpv6, ip, ipv4, ipv6, tcp, udp, vnet
from torbox.netstack.wire.checksum import complement, ones_sum
from torbox.netstack.wire.ip import Packet

A4, B4 = bytes((10, 0, 2, 100)), bytes((192, 0, 2, 7))
A6, B6 = bytes.fromhex("fd00" + "00" * 13 + "64"), bytes.fromhex("20010db8" + "00" * 11 + "07")
ADDRESSES = pytest.mark.parametrize("addresses", [A4 + B4, A6 + B6], ids=["v4", "v6"])
PAYLOADS = st.binary(max_size=300)


def reference_checksum(data: bytes) -> int:
    """RFC 1071 §4.1, word by word."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(total)


def parsed(packet: bytes) -> Packet:
    parse = ipv4.parse if packet[0] >> 4 == 4 else ipv6.parse
    return parse(memoryview(packet), 0, len(packet))


def decoded(packet: bytes) -> Any:
    """The transport that impacket finds, after it has found our addresses right."""
    outer = (ImpactDecoder.IPDecoder() if packet[0] >> 4 == 4 else ImpactDecoder.IP6Decoder()).decode(packet)
    if packet[0] >> 4 == 4:
        assert outer.get_ip_src() == "10.0.2.100"
        assert outer.get_ip_dst() == "192.0.2.7"
        assert outer.get_ip_len() == len(packet)
        assert outer.get_ip_sum() == complement(ones_sum(packet[:10] + packet[12:20]))
    else:
        assert bytes(outer.get_ip_src().as_bytes()) == A6
        assert bytes(outer.get_ip_dst().as_bytes()) == B6
    return outer.child()


def made_by_impacket(transport: Any, v4: bool, protocol: int) -> bytes:
    if v4:
        outer = ImpactPacket.IP()
        outer.set_ip_src("10.0.2.100")
        outer.set_ip_dst("192.0.2.7")
    else:
        outer = IP6.IP6()
        outer.set_ip_v(6)
        outer.set_ip_src("fd00::64")
        outer.set_ip_dst("2001:db8::7")
        outer.set_hop_limit(64)
        outer.set_next_header(protocol)
        outer.set_payload_length(transport.get_size())
    outer.contains(transport)
    if not v4:
        transport.calculate_checksum()
    return bytes(outer.get_packet())


@given(st.binary(max_size=200))
def test_the_sum_is_that_of_the_rfc(data: bytes) -> None:
    assert ones_sum(data) == reference_checksum(data)
    assert complement(ones_sum(data)) == 0xFFFF - reference_checksum(data)


@ADDRESSES
@given(
    seq=st.integers(0, 0xFFFFFFFF),
    ack=st.integers(0, 0xFFFFFFFF),
    flags=st.integers(0, 63),
    window=st.integers(0, 65535),
    options=st.binary(max_size=10).map(lambda data: data * 4),
    data=PAYLOADS,
)
def test_impacket_reads_our_segments(
    addresses: bytes, seq: int, ack: int, flags: int, window: int, options: bytes, data: bytes
) -> None:
    options = (b"\1" * len(options))[: len(options) & ~3]  # impacket cannot read nonsense options
    packet = tcp.emit(addresses, struct.pack("!HH", 4242, 443), seq, ack, flags, window, options, data)
    seen = decoded(packet)
    assert (seen.get_th_sport(), seen.get_th_dport()) == (4242, 443)
    assert (seen.get_th_seq(), seen.get_th_ack()) == (seq, ack)
    assert (seen.get_th_flags(), seen.get_th_win()) == (flags, window)
    assert seen.get_th_off() * 4 == 20 + len(options)
    assert bytes(seen.get_data_as_string()) == data
    again = tcp.parse(parsed(packet))  # verifies the checksum
    assert (again.seq, again.ack, again.flags, again.window) == (seq, ack, flags, window)
    assert (again.options, bytes(again.data)) == (options, data)


@given(seq=st.integers(0, 0xFFFFFFFF), window=st.integers(0, 65535), data=PAYLOADS)
def test_we_read_the_segments_of_impacket(seq: int, window: int, data: bytes) -> None:
    segment = ImpactPacket.TCP()
    segment.set_th_sport(4242)
    segment.set_th_dport(443)
    segment.set_th_seq(seq)
    segment.set_th_ack(7)
    segment.set_th_win(window)
    segment.set_th_flags(tcp.ACK | tcp.PSH)
    segment.contains(ImpactPacket.Data(data))
    ours = tcp.parse(parsed(made_by_impacket(segment, True, ip.TCP)))
    assert (ours.ports, ours.seq, ours.ack) == (struct.pack("!HH", 4242, 443), seq, 7)
    assert (ours.flags, ours.window, bytes(ours.data)) == (tcp.ACK | tcp.PSH, window, data)


@ADDRESSES
@given(data=PAYLOADS)
def test_impacket_reads_our_datagrams(addresses: bytes, data: bytes) -> None:
    datagram = udp.emit(addresses, 53, 5353, data)
    form = ipv4 if len(addresses) == 8 else ipv6
    packet = form.emit(addresses, ip.UDP, len(datagram)) + datagram
    seen = decoded(packet)
    assert (seen.get_uh_sport(), seen.get_uh_dport(), seen.get_uh_ulen()) == (53, 5353, len(datagram))
    assert bytes(seen.get_data_as_string()) == data
    again = udp.parse(parsed(packet))
    assert (again.source_port, again.destination_port, bytes(again.payload)) == (53, 5353, data)


@given(data=PAYLOADS)
def test_we_read_the_datagrams_of_impacket(data: bytes) -> None:
    datagram = ImpactPacket.UDP()
    datagram.set_uh_sport(53)
    datagram.set_uh_dport(5353)
    datagram.contains(ImpactPacket.Data(data))
    ours = udp.parse(parsed(made_by_impacket(datagram, True, ip.UDP)))
    assert (ours.source_port, ours.destination_port, bytes(ours.payload)) == (53, 5353, data)


@given(rest=st.integers(0, 0xFFFFFFFF), body=PAYLOADS)
def test_impacket_reads_our_icmp(rest: int, body: bytes) -> None:
    message = icmpv4.emit(icmpv4.ECHO_REPLY, 0, rest, body)
    seen = decoded(ipv4.emit(A4 + B4, ip.ICMPV4, len(message)) + message)
    assert seen.get_icmp_type() == 0
    assert seen.get_icmp_id() << 16 | seen.get_icmp_seq() == rest
    assert bytes(seen.get_data_as_string() or b"") == body
    assert reference_checksum(message) == 0xFFFF


@given(number=st.integers(0, 0xFFFF), body=PAYLOADS)
def test_we_read_the_icmp_of_impacket(number: int, body: bytes) -> None:
    message = ImpactPacket.ICMP()
    message.set_icmp_type(message.ICMP_ECHO)
    message.set_icmp_id(number)
    message.set_icmp_seq(2)
    message.contains(ImpactPacket.Data(body))
    ours = icmpv4.parse(parsed(made_by_impacket(message, True, ip.ICMPV4)))
    assert (ours.type, ours.rest, bytes(ours.body)) == (icmpv4.ECHO_REQUEST, number << 16 | 2, body)


@given(number=st.integers(0, 0xFFFF), body=st.binary(max_size=300))
def test_icmpv6_both_ways(number: int, body: bytes) -> None:
    theirs = made_by_impacket(ICMP6.ICMP6.Echo_Request(number, 2, body), False, ip.ICMPV6)
    ours = icmpv6.parse(parsed(theirs))
    assert (ours.type, ours.rest, bytes(ours.body)) == (icmpv6.ECHO_REQUEST, number << 16 | 2, body)
    message = icmpv6.emit(A6 + B6, icmpv6.ECHO_REPLY, 0, number << 16 | 2, body)
    seen = decoded(ipv6.emit(A6 + B6, ip.ICMPV6, len(message)) + message)
    assert seen.get_type() == icmpv6.ECHO_REPLY
    assert seen.get_echo_id() == number
    assert bytes(seen.get_echo_arbitrary_data()) == body
    assert (
        icmpv6.parse(parsed(ipv6.emit(A6 + B6, ip.ICMPV6, len(message)) + message)).rest == number << 16 | 2
    )


@ADDRESSES
def test_a_partial_checksum_is_the_folded_pseudo_header_and_finishes_right(addresses: bytes) -> None:
    ports = struct.pack("!HH", 80, 4000)
    template = tcp.HeaderTemplate(addresses, ports)
    headers = template.headers(1, 2, tcp.ACK, 3, b"", 5)
    at = template.ip_size + tcp.CHECKSUM_OFFSET
    partial = int.from_bytes(headers[at : at + 2], "big")
    assert partial == reference_checksum(addresses + struct.pack("!HH", 6, 25))
    finished = tcp.complete_checksum(headers, template.ip_size, [b"hel", b"lo"])
    assert finished + b"hello" == tcp.emit(addresses, ports, 1, 2, tcp.ACK, 3, b"", b"hello")
    udp_partial = udp.emit(addresses, 1, 2, b"hello", partial=True)
    assert int.from_bytes(udp_partial[6:8], "big") == reference_checksum(
        addresses + struct.pack("!HH", 17, 13)
    )


@ADDRESSES
def test_wrong_checksums_are_caught_and_not_looked_at_when_left_to_hardware(addresses: bytes) -> None:
    form = ipv4 if len(addresses) == 8 else ipv6
    segment = bytearray(tcp.emit(addresses, bytes(4), 1, 2, tcp.ACK, 3, b"", b"hello"))
    segment[-1] ^= 1
    with pytest.raises(WireError, match="tcp: wrong checksum"):
        tcp.parse(parsed(bytes(segment)))
    assert bytes(tcp.parse(parsed(bytes(segment)), verify=False).data) == b"helln"
    datagram = udp.emit(addresses, 1, 2, b"hello")[:-1] + b"n"
    packet = form.emit(addresses, ip.UDP, len(datagram)) + datagram
    with pytest.raises(WireError, match="udp: wrong checksum"):
        udp.parse(parsed(packet))
    assert bytes(udp.parse(parsed(packet), verify=False).payload) == b"helln"


def test_a_datagram_may_go_without_checksum_in_ipv4_alone() -> None:
    bare = udp.HEADER.pack(1, 2, 9, 0) + b"x"
    assert bytes(udp.parse(parsed(ipv4.emit(A4 + B4, ip.UDP, 9) + bare)).payload) == b"x"
    with pytest.raises(WireError):
        udp.parse(parsed(ipv6.emit(A6 + B6, ip.UDP, 9) + bare))


def test_ipv4_options_are_stepped_over() -> None:
    packet = bytearray(ipv4.emit(A4 + B4, ip.UDP, 12))
    packet[0] = 0x46
    packet[20:20] = b"\x94\x04\0\0"  # router alert
    packet[2:4] = (24 + 8).to_bytes(2, "big")
    packet[10:12] = bytes(2)
    packet[10:12] = complement(ones_sum(packet)).to_bytes(2, "big")
    found = parsed(bytes(packet) + udp.emit(A4 + B4, 1, 2, b""))
    assert found.start == 24
    assert udp.parse(found).destination_port == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: p[:19], "short header"),
        (lambda p: b"\x54" + p[1:], "not a header"),
        (lambda p: b"\x44" + p[1:], "not a header"),
        (lambda p: p[:-1], "wrong total length"),
        (lambda p: p[:3] + b"\x13" + p[4:], "wrong total length"),
        (lambda p: p[:8] + b"\x01" + p[9:], "wrong header checksum"),
        (lambda p: ipv4.emit(A4 + B4, 17, 7, flags=ipv4.MORE_FRAGMENTS) + bytes(7), "impossible fragment"),
        (lambda p: ipv4.emit(A4 + B4, 17, 8, flags=0x1FFF) + bytes(8), "impossible fragment"),
        (lambda p: ipv4.emit(A4 + B4, 17, 0, flags=0x2001), "impossible fragment"),
    ],
)
def test_what_is_wrong_with_ipv4_is_named(change: Any, reason: str) -> None:
    packet = ipv4.emit(A4 + B4, ip.UDP, 4) + b"abcd"
    buffer = change(packet)
    with pytest.raises(WireError, match=f"ipv4: {reason}"):
        ipv4.parse(memoryview(buffer), 0, len(buffer))


def extended(*headers: bytes, protocol: int = ipv6.DESTINATION_OPTIONS, payload: bytes = b"") -> bytes:
    body = b"".join(headers) + payload
    return ipv6.emit(A6 + B6, protocol, len(body)) + body


def option_header(following: int, extra: int = 0) -> bytes:
    """A header whose one option may be stepped over: PadN, or where there is more an experiment's."""
    return bytes((following, extra, 0x1E if extra else 1, 4 + extra * 8)) + bytes(4 + extra * 8)


def test_ipv6_extension_headers_are_walked() -> None:
    datagram = udp.emit(A6 + B6, 1, 2, b"hi")
    packet = parsed(
        extended(
            option_header(ipv6.ROUTING),
            bytes((ipv6.DESTINATION_OPTIONS, 0, 0, 0, 0, 0, 0, 0)),
            option_header(ipv6.FRAGMENT_HEADER, 2),
            ipv6.FRAGMENT.pack(ip.UDP, 0, 0, 77),  # atomic
            protocol=ipv6.HOP_BY_HOP,
            payload=datagram,
        )
    )
    assert packet.fragment is None
    assert packet.protocol == ip.UDP
    assert packet.next_header == 40 + 8 + 8 + 24
    assert bytes(udp.parse(packet).payload) == b"hi"


def test_an_ipv6_fragment_is_told_apart() -> None:
    fragment = parsed(
        extended(ipv6.FRAGMENT.pack(17, 0, 16 | 1, 77), protocol=ipv6.FRAGMENT_HEADER, payload=bytes(8))
    ).fragment
    assert fragment is not None
    assert (fragment.offset, fragment.more, fragment.identification) == (16, True, 77)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (bytes(39), "short header"),
        (b"\x50" + bytes(39), "not a header"),
        (ipv6.emit(A6 + B6, 17, 9) + bytes(8), "wrong payload length"),
        (extended(*[option_header(60)] * 9, payload=b"x"), "too many extension headers"),
        (extended(payload=bytes(7)), "short extension header"),
        (extended(bytes((17, 1)) + bytes(6)), "long extension header"),
        (extended(bytes((17, 0, 0, 1)) + bytes(4), protocol=ipv6.ROUTING), "segments left"),
        (extended(payload=bytes(7), protocol=ipv6.FRAGMENT_HEADER), "short fragment header"),
        (extended(ipv6.FRAGMENT.pack(17, 0, 1, 1), protocol=44, payload=bytes(9)), "impossible fragment"),
        (
            extended(ipv6.FRAGMENT.pack(17, 0, 0xFFF8, 1), protocol=44, payload=bytes(9)),
            "impossible fragment",
        ),
    ],
)
def test_what_is_wrong_with_ipv6_is_named(packet: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=f"ipv6: {reason}"):
        ipv6.parse(memoryview(packet), 0, len(packet))


def test_a_hop_by_hop_header_that_is_not_first_is_an_unknown_protocol() -> None:
    packet = parsed(extended(option_header(ipv6.HOP_BY_HOP), option_header(17)))
    assert packet.protocol == ipv6.HOP_BY_HOP


@pytest.mark.parametrize(
    ("parse", "protocol", "payload"),
    [
        (tcp.parse, ip.TCP, bytes(19)),
        (tcp.parse, ip.TCP, bytes(12) + b"\x40" + bytes(7)),
        (tcp.parse, ip.TCP, bytes(12) + b"\xf0" + bytes(20)),
        (udp.parse, ip.UDP, bytes(7)),
        (udp.parse, ip.UDP, b"\0\0\0\0\0\x07\0\0"),
        (udp.parse, ip.UDP, b"\0\0\0\0\0\x09\0\0"),
        (icmpv4.parse, ip.ICMPV4, bytes(7)),
        (icmpv4.parse, ip.ICMPV4, b"\x08\0\0\0\0\0\0\0"),
    ],
)
def test_transports_that_lie_about_their_size_are_caught(parse: Any, protocol: int, payload: bytes) -> None:
    with pytest.raises(WireError):
        parse(parsed(ipv4.emit(A4 + B4, protocol, len(payload)) + payload))
    if protocol != ip.ICMPV4:
        with pytest.raises(WireError):
            parse(parsed(ipv6.emit(A6 + B6, protocol, len(payload)) + payload))


@pytest.mark.parametrize("payload", [bytes(7), b"\x80\0\0\0\0\0\0\0"])
def test_icmpv6_that_is_wrong_is_caught(payload: bytes) -> None:
    with pytest.raises(WireError):
        icmpv6.parse(parsed(ipv6.emit(A6 + B6, ip.ICMPV6, len(payload)) + payload))


def test_the_virtio_header_is_ten_bytes_both_ways() -> None:
    frame = vnet.emit(1, vnet.GSO_TCPV6 | vnet.GSO_ECN, 60, 1440, 40, 16)
    assert len(frame) == vnet.SIZE == 10
    header = vnet.parse(frame)
    assert (header.flags, header.gso_type, header.hdr_len) == (1, vnet.GSO_TCPV6, 60)
    assert (header.gso_size, header.csum_start, header.csum_offset) == (1440, 40, 16)
    with pytest.raises(WireError):
        vnet.parse(frame[:9])


@pytest.mark.parametrize("mtu", [576, 1280, 1500])
@given(size=st.integers(0, 6000), number=st.integers(0, 0xFFFF))
def test_fragments_fit_and_carry_everything(mtu: int, size: int, number: int) -> None:
    payload = bytes(i % 251 for i in range(size))
    for form, addresses in ((ipv4, A4 + B4), (ipv6, A6 + B6)):
        pieces = [parsed(piece) for piece in form.fragments(addresses, ip.UDP, payload, mtu, number)]
        assert all(piece.end <= mtu for piece in pieces)
        assert b"".join(bytes(piece.payload) for piece in pieces) == payload
        if len(pieces) > 1:
            assert [piece.fragment is not None and piece.fragment.more for piece in pieces] == (
                [True] * (len(pieces) - 1) + [False]
            )


@pytest.mark.parametrize(
    ("address", "unicast"),
    [
        ("0a000001", True),
        ("00000001", False),
        ("e00000fb", False),
        ("ffffffff", False),
        ("f0000001", False),
        ("20010db8" + "00" * 11 + "01", True),
        ("00" * 16, False),
        ("ff02" + "00" * 13 + "01", False),
    ],
)
def test_one_host_is_told_from_many(address: str, unicast: bool) -> None:
    assert ip.is_unicast(bytes.fromhex(address)) is unicast
