# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks: a conversation with the stack, written down as a packet trace.

    >> S 0:0 win 64000 <mss 1460,wscale 7>      the guest sends; several in a row are one batch
    !! accept                                   the upstream's side does something, see `Playbook`
    << S. 0:0 ack 1 win 65535 <mss 1460,wscale 5>   the stack must send exactly this
    +0.2                                        that many seconds pass
    == ESTABLISHED                              the connection's state

Options: mss, wscale, sackok; `ts VAL ECR`, ours in milliseconds since the playbook began, the guest's as they
are; `sack 1001-2001 3001-4001`, in the numbers of the side that is told.

Flags: S SYN, F FIN, R RST, P PSH, U URG, `.` ACK. Numbers are relative to each side's first; `seq:end` are
those of the data, FIN and SYN not counted. What is not written after `<<` (win, options) is not compared.
Data is a pattern of the position it is sent at, so what arrives can be checked. All output must be foretold.
"""

from __future__ import annotations

import re
from typing import Any

from tests.netstack.addresses import GUESTS, REMOTES
from torbox.netstack.flow import FlowKey, Refusal
from torbox.netstack.ring import RingPool
from torbox.netstack.stack import Stack, StackConfig
from torbox.netstack.tcp import options as tcp_options
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.tcp.sequence import MASK
from torbox.netstack.testing import Guest, MemoryDevice
from torbox.netstack.wire import icmpv4, icmpv6, ip, tcp, vnet

GUEST_ISS = 0xFFFFFF00  # wraps early in every playbook
OUR_ISS = 0xFFFFFFF0
PORTS = (40000, 80)
FLAGS = {"S": tcp.SYN, "F": tcp.FIN, "R": tcp.RST, "P": tcp.PSH, ".": tcp.ACK, "U": tcp.URG}

_SEGMENT = re.compile(
    r"(?P<flags>[SFRPU.]+) (?P<seq>-?\d+):(?P<end>-?\d+)"
    r"(?: ack (?P<ack>-?\d+))?(?: win (?P<win>\d+))?(?: <(?P<options>.*)>)?$"
)


def pattern(start: int, size: int) -> bytes:
    """The bytes at `start` of the endless stream that each side sends."""
    return bytes((start + i) * 7 % 251 for i in range(size))


class Playbook:
    """`!!` verbs: accept, write N, read N, close, abort, keep-alive IDLE, refuse WHY, connect.

    `keep-alive` asks every ten seconds, three times.
    """

    def __init__(
        self,
        version: int = 4,
        *,
        mtu: int = 1500,
        gso: bool = True,
        ring_limit: int = 1 << 20,
        config: StackConfig | None = None,
    ) -> None:
        self.now = 1000.0
        self.version = version
        self.pool = RingPool()
        self.device = MemoryDevice(mtu, gso=gso)
        self.guest = Guest(self.device, GUESTS[version])
        self.connection: TcpConnection | None = None
        self.opened: list[TcpConnection] = []
        self.written = self.read = 0
        self.guest_iss, self.our_iss = GUEST_ISS, OUR_ISS
        self.clock = (int(self.now) * 1000 + OUR_ISS) & MASK  # what our timestamps begin with
        self.stack = Stack(
            self.device,
            self,
            config or StackConfig(ring_limit=ring_limit),
            self.now,
            random_bytes=lambda n: OUR_ISS.to_bytes(n, "big"),
            pool=self.pool,
        )

    # The owner's side

    def tcp_opened(self, connection: TcpConnection) -> None:
        self.connection = connection
        self.opened.append(connection)
        self.written = self.read = 0

    def udp_arrived(self, key: FlowKey, payload: memoryview) -> bool:
        return False

    # The script

    def play(self, script: str) -> Playbook:
        for number, line in enumerate(script.strip().splitlines(), 1):
            text = line.split("#")[0].strip()
            if not text:
                continue
            try:
                self._step(text)
            except AssertionError as error:
                raise AssertionError(f"line {number}: {line.strip()}\n{error}") from error
        self._turn()
        self._expect_silence()
        return self

    def _step(self, text: str) -> None:
        if text.startswith(">>"):
            self._expect_silence()
            self._send(text[2:].strip())
            return
        self._turn()
        if text.startswith("<<"):
            self._receive(text[2:].strip())
            return
        if text.startswith("=="):
            assert self.connection is not None
            state = self.connection.state.value
            assert state == text[2:].strip(), f"the state is {state}"
            return
        self._expect_silence()
        if text.startswith("+"):
            self.now += float(text)
            self.stack.expire(self.now)
            self.stack.flush(self.now)
        else:
            assert text.startswith("!!"), "not a line of a playbook"
            self._act(*text[2:].split())

    def _turn(self) -> None:
        while self.stack.receive(self.now):
            pass
        self.stack.flush(self.now)

    def _act(self, verb: str, argument: str = "") -> None:
        connection = self.connection
        if verb == "connect":
            key = FlowKey(self.guest.address, PORTS[0], REMOTES[self.version], PORTS[1])
            self.connection = self.stack.connect(key)
            assert self.connection is not None
        elif verb == "accept":
            assert connection is not None
            connection.accept()
        elif verb == "write":
            assert connection is not None
            size = connection.snd_buf.write(pattern(self.written, int(argument)))
            assert size == int(argument), f"only {size} bytes fit"
            self.written += size
            self.stack.mark(connection)
        elif verb == "read":
            assert connection is not None
            data = b"".join(connection.rcv_buf.peek(0, int(argument)))
            assert data == pattern(self.read, int(argument)), f"read {len(data)} bytes, or wrong ones"
            connection.rcv_buf.consume(len(data))
            self.read += len(data)
            self.stack.mark(connection)
        elif verb == "close":
            assert connection is not None
            connection.close()
        elif verb == "keep-alive":
            assert connection is not None
            connection.keep_alive(float(argument), 10.0, 3)
        elif verb == "abort":
            assert connection is not None
            connection.abort()
        elif verb == "refuse":
            assert connection is not None
            self.stack.refuse(connection, Refusal[argument])
        else:
            raise AssertionError("not a verb")
        self.stack.flush(self.now)

    def _send(self, text: str) -> None:
        match = _SEGMENT.match(text)
        assert match, "not a segment"
        seq, end = int(match["seq"]), int(match["end"])
        flags = sum(FLAGS[letter] for letter in match["flags"])
        ack = (self.our_iss + int(match["ack"] or 0)) & MASK if match["ack"] else 0
        options = b""
        if match["options"]:
            options = self._options(match["options"], syn="S" in match["flags"])
        self.guest.send_segment(
            REMOTES[self.version],
            PORTS,
            (self.guest_iss + seq) & MASK,
            ack,
            flags,
            int(match["win"] or 0),
            options,
            pattern(seq - 1, end - seq),
        )

    def _receive(self, text: str) -> None:
        received = self.guest.received()
        assert received is not None, "nothing was sent"
        header, packet = received
        got = self._describe(header, packet)
        if text.startswith("icmp"):
            assert got == text, f"sent: {got}"
            return
        match = _SEGMENT.match(text)
        assert match, "not a segment"
        wanted = re.sub(r" <.*>", "", text) if not match["options"] else text
        if not match["options"]:
            got = re.sub(r" <.*>", "", got)
        if not match["win"]:
            got = re.sub(r" win \d+", "", got)
        assert got == wanted, f"sent: {self._describe(header, packet)}"

    def _describe(self, header: vnet.VnetHeader, packet: ip.Packet) -> str:
        if packet.protocol == ip.ICMPV4:
            message = icmpv4.parse(packet)
            return f"icmp type {message.type} code {message.code}"
        if packet.protocol == ip.ICMPV6:
            message = icmpv6.parse(packet)
            return f"icmp type {message.type} code {message.code}"
        segment = tcp.parse(packet, verify=not header.flags & vnet.NEEDS_CSUM)
        flags = "".join(letter for letter, bit in FLAGS.items() if segment.flags & bit)
        flags = "".join(sorted(flags, key="SFRPU.".index))
        seq = self._relative(segment.seq, self.our_iss)
        size = len(segment.data)
        if size:
            assert bytes(segment.data) == pattern(seq - 1, size), "wrong bytes were sent"
        text = f"{flags} {seq}:{seq + size}"
        if segment.flags & tcp.ACK:
            text += f" ack {self._relative(segment.ack, self.guest_iss)}"
        text += f" win {segment.window}"
        if segment.options:
            text += f" <{self._describe_options(segment)}>"
        return text

    def _options(self, text: str, *, syn: bool) -> bytes:
        named = {name: values for name, *values in (option.split() for option in text.split(","))}
        timestamps = b""
        if "ts" in named:
            value, echo = (int(number) for number in named["ts"])
            word = tcp_options.TIMESTAMPS_WORD
            timestamps = tcp_options.TIMESTAMPS.pack(word, value, (self.clock + echo) & MASK)
        if syn:
            mss, scale = (
                int(named.get(name, [default])[0]) for name, default in (("mss", 1460), ("wscale", -1))
            )
            return tcp_options.emit(mss, scale, sack="sackok" in named, timestamps=timestamps)
        blocks = []
        for block in named.get("sack", ()):
            pair = re.fullmatch(r"(-?\d+)-(-?\d+)", block)
            assert pair, "not a block"
            blocks.append(((self.our_iss + int(pair[1])) & MASK, (self.our_iss + int(pair[2])) & MASK))
        return timestamps + tcp_options.emit_sack(blocks)

    def _describe_options(self, segment: tcp.Segment) -> str:
        parts = []
        if segment.flags & tcp.SYN:
            found = tcp_options.parse(segment.options)
            parts.append(f"mss {found.mss}")
            if found.window_scale >= 0:
                parts.append(f"wscale {found.window_scale}")
            if found.sack:
                parts.append("sackok")
            value, echo = found.timestamp, found.echo
            blocks: tcp_options.Blocks = ()
        else:
            value, echo, blocks = tcp_options.parse_segment(segment.options)
        if value >= 0:
            parts.append(f"ts {self._relative(value, self.clock)} {echo}")
        if blocks:
            pairs = [[self._relative(number, self.guest_iss) for number in block] for block in blocks]
            parts.append("sack " + " ".join(f"{start}-{end}" for start, end in pairs))
        return ",".join(parts)

    @staticmethod
    def _relative(number: int, first: int) -> int:
        return ((number - first + 0x80000000) & MASK) - 0x80000000

    def _expect_silence(self) -> None:
        received = self.guest.received()
        if received is not None:
            raise AssertionError(f"sent, but not foretold: {self._describe(*received)}")


def established(*, offer: str = "", **options: Any) -> Playbook:
    """A connection after its handshake: the guest's window is 64,000 bytes, its MSS 1,000.

    `offer`: "sackok" for a guest that hears of text out of order; see `stamped` for one with timestamps.
    """
    offered = f"mss 1000,{offer}" if offer else "mss 1000"
    return Playbook(**options).play(
        f"""
        >> S 0:0 win 64000 <{offered}>
        !! accept
        << S. 0:0 ack 1
        >> . 1:1 ack 1 win 64000
        == ESTABLISHED
        """
    )


def stamped(**options: Any) -> Playbook:
    """A connection with timestamps, the guest's last is 100; its MSS of 1,012 leaves 1,000 for text."""
    return Playbook(**options).play(
        """
        >> S 0:0 win 64000 <mss 1012,sackok,ts 100 0>
        !! accept
        << S. 0:0 ack 1 win 65535 <mss 1460,sackok,ts 0 100>
        >> . 1:1 ack 1 win 64000 <ts 100 0>
        == ESTABLISHED
        """
    )
