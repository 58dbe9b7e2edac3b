# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hostile program does to the stack, each for ever: with ordinary sockets, or frames it made itself.

The kernel inside makes what ordinary sockets send, so that is all a sandboxed program can do (it has no
capabilities). The forged ones are what it could do if that lock failed.
"""

from __future__ import annotations

import contextlib
import random
import resource
import select
import socket
import struct
from collections.abc import Callable

from tests.siege.far_end import ECHO, HANGING, SINK, SOURCE
from tests.siege.raw import ATTACKER, HONEST, Pace, Peer, Raw, play
from torbox.netstack.wire import icmpv4, ip, ipv4, tcp

SITE = "93.184.215.14"
SITE_PACKED = socket.inet_aton(SITE)
GATEWAY = ("10.0.2.2", 53)
SOCKETS = 4000  # of one attacking program
RESET = struct.pack("ii", 1, 0)


def _socket(kind: int = socket.SOCK_STREAM) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    sock.setblocking(False)
    return sock


# With ordinary sockets


def hanging_connects() -> None:
    """Thousands of connects to addresses that never answer, begun again and again."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOCKETS + 100, SOCKETS + 100))
    number, waiting = 0, list[socket.socket]()
    pace = Pace()
    while True:
        pace.keep()
        number += 1
        sock = _socket()
        host = number % 50 if number % 2 else 1
        sock.connect_ex((f"{HANGING}.0.{host}.{1 + number % 250 if number % 4 == 1 else 1}", 80))
        waiting.append(sock)
        if len(waiting) >= SOCKETS:
            waiting.pop(0).close()


def churn() -> None:
    """Connections that end as soon as they begin, by a reset or in order."""
    number = 0
    pace = Pace()
    while True:
        pace.keep()
        number += 1
        sock = _socket()
        sock.connect_ex((f"93.184.{number % 200}.1", ECHO))
        if number % 2:
            select.select([], [sock], [], 0.05)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()


def hasty_connects() -> None:
    """Connects to what answers at once, each closed before it does: nobody acknowledges that answer."""
    pace = Pace()
    while True:
        pace.keep()
        sock = _socket()
        sock.connect_ex(GATEWAY)
        sock.close()


def datagrams() -> None:
    """UDP to where nobody takes it, of every size."""
    sizes = (0, 1, 100, 1400, 9000, 65000)
    sockets = [_socket(socket.SOCK_DGRAM) for _ in range(20)]
    number = 0
    pace = Pace()
    while True:
        pace.keep()
        number += 1
        with contextlib.suppress(OSError):
            sockets[number % 20].sendto(bytes(sizes[number % 6]), (f"93.184.216.{number % 250}", 443))


def names() -> None:
    """A query for another name each time."""
    sockets = [_socket(socket.SOCK_DGRAM) for _ in range(20)]
    chance = random.Random(2)
    pace = Pace()
    while True:
        pace.keep()
        label = b"%x" % chance.getrandbits(200)
        query = b"\0\7\1\0\0\1\0\0\0\0\0\0" + bytes((len(label),)) + label + b"\4test\0\0\1\0\1"
        with contextlib.suppress(OSError):
            chance.choice(sockets).sendto(query, GATEWAY)


def names_by_tcp() -> None:
    """Hundreds of connections to the gateway's DNS, all with more questions than are answered in a turn."""
    query = b"\0\7\1\0\0\1\0\0\0\0\0\0\7example\4test\0\0\1\0\1"
    burst = (len(query).to_bytes(2, "big") + query) * 500
    sockets: list[socket.socket] = []
    pace = Pace()
    while True:
        while len(sockets) < 500:
            sockets.append(_socket())
            sockets[-1].connect_ex(GATEWAY)
        for index, sock in enumerate(sockets):
            pace.keep()
            try:
                sock.send(burst)
                if index % 2:
                    sock.recv(1 << 16)
            except (BlockingIOError, BrokenPipeError):
                continue
            except OSError:
                sock.close()
                sockets[index] = _socket()
                sockets[index].connect_ex(GATEWAY)


def closed_windows() -> None:
    """Connections that ask for bytes without end and read none of them: all buffers fill and stay full."""
    sockets = []
    for _ in range(400):
        sock = _socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect_ex((SITE, SOURCE))
        sockets.append(sock)
    while True:
        select.select([], [], [], 1)
        for sock in sockets[:20]:
            with contextlib.suppress(OSError):
                sock.recv(1000)


def urgent() -> None:
    """Urgent data, byte by byte."""
    sockets = [socket.create_connection((SITE, SINK), 10) for _ in range(20)]
    while True:
        for sock in sockets:
            sock.send(b"!", socket.MSG_OOB)
            sock.send(b"x")


def hoarded_uploads() -> None:
    """Uploads to a far end that never comes, and to one that never reads: the rings towards it fill."""
    sockets = [_socket() for _ in range(300)]
    for index, sock in enumerate(sockets):
        sock.connect_ex((SITE, SOURCE if index % 2 else ECHO))
    block = bytes(1 << 16)
    while True:
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.send(block)
        select.select([], [], [], 0.001)


# With frames of its own making


def syns() -> None:
    """SYNs of ports and to addresses at random, that nobody will ever acknowledge the answer to."""
    raw, chance = Raw(), random.Random(3)
    while True:
        first = chance.choice((HANGING, HANGING, 93, 10))
        remote = bytes((10, 0, 2, 2)) if first == 10 else bytes((first, 184, *chance.randbytes(2)))
        ports = struct.pack("!HH", chance.randrange(1024, 65536), chance.choice((80, 53, 443)))
        raw.send(tcp.emit(ATTACKER + remote, ports, chance.getrandbits(32), 0, tcp.SYN, 65535))


def malformed() -> None:
    """Packets that are nearly packets."""
    raw, chance = Raw(), random.Random(4)
    while True:
        body = chance.randbytes(chance.randrange(1, 100))
        packet = bytearray(ipv4.emit(ATTACKER + SITE_PACKED, chance.choice((1, 6, 17, 99)), len(body)) + body)
        if chance.random() < 0.5:
            packet[chance.randrange(len(packet))] ^= 1 << chance.randrange(8)
        raw.send(bytes(packet))


def fragments() -> None:
    """First, last and overlapping pieces of packets that never become whole."""
    raw, chance = Raw(), random.Random(5)
    while True:
        size = chance.choice((8, 1400, 8000))
        flags = chance.choice((0, 1, 2, 3, 100)) | chance.choice((0, 0x2000))
        identification = chance.choice((chance.getrandbits(16), 7))
        header = ipv4.emit(ATTACKER + SITE_PACKED, ip.UDP, size, identification=identification, flags=flags)
        raw.send(header + bytes(size))


def echoes() -> None:
    """Echo requests to the gateway and to all the world, and ICMP errors about nothing."""
    raw, chance = Raw(), random.Random(6)
    gateway = bytes((10, 0, 2, 2))
    while True:
        kind = chance.choice((8, 8, 8, 3, 5, 11))
        message = icmpv4.emit(kind, 0, chance.getrandbits(32), bytes(chance.choice((0, 56, 1400))))
        remote = chance.choice((gateway, SITE_PACKED))
        raw.send(ipv4.emit(ATTACKER + remote, ip.ICMPV4, len(message)) + message)


def resets() -> None:
    """Resets, SYNs and acknowledgements in the name of the honest program's ports, numbers guessed."""
    raw, chance = Raw(), random.Random(7)
    while True:
        ports = struct.pack("!HH", chance.randrange(2048, 65000), 80)
        flags = chance.choice((tcp.RST, tcp.RST | tcp.ACK, tcp.ACK, tcp.ACK | tcp.FIN))
        seq, ack = chance.getrandbits(32), chance.getrandbits(32)
        raw.send(tcp.emit(HONEST + SITE_PACKED, ports, seq, ack, flags, 65535))


def _sack(peer: Peer, chance: random.Random) -> bytes:
    blocks = b""
    for _ in range(chance.randrange(1, 5)):
        left = (peer.ack + chance.randrange(-5000, 100_000)) & 0xFFFFFFFF
        blocks += struct.pack("!II", left, (left + chance.randrange(-10, 5000)) & 0xFFFFFFFF)
    options = bytes((5, 2 + len(blocks))) + blocks
    return (b"\1\1" + options)[:40]


def acknowledgements() -> None:
    """Optimistic acknowledgements, duplicates, SACK blocks of nowhere, windows that open and shut."""
    raw = Raw()
    offered = b"\2\4\5\xb4\4\2\x08\x0a" + struct.pack("!II", 1, 0) + b"\1\3\3\7"
    peers = [Peer(raw, SITE_PACKED, (3000 + number, SOURCE), offered) for number in range(30)]

    def act(peer: Peer, chance: random.Random) -> None:
        ahead = chance.choice((0, 0, 1, 1460, 60_000, -1000, 1 << 30))
        window = chance.choice((0, 1, 100, 65535))
        options = chance.choice((b"", _sack(peer, chance), b"\1\1\x08\x0a" + chance.randbytes(8)))
        peer.say(tcp.ACK, ahead=ahead, window=window, options=options)

    play(raw, peers, act)


def single_bytes() -> None:
    """A MSS of one, and text in single bytes that never come in order."""
    raw = Raw()
    peers = [Peer(raw, SITE_PACKED, (3000 + number, SINK), b"\2\4\0\1") for number in range(60)]

    def act(peer: Peer, chance: random.Random) -> None:
        for _ in range(10):
            peer.say(tcp.ACK | tcp.PSH, b"x", skip=1 + 2 * chance.randrange(500_000))

    play(raw, peers, act)


ATTACKS: tuple[Callable[[], None], ...] = (
    *(
        hanging_connects,
        churn,
        hasty_connects,
        datagrams,
        names,
        names_by_tcp,
        closed_windows,
        urgent,
        hoarded_uploads,
    ),
    *(syns, malformed, fragments, echoes, resets, acknowledgements, single_bytes),
)
