# SPDX-License-Identifier: GPL-3.0-or-later
"""The name service at the gateway's address: bytes and the time in, bytes out by a callback.

    query ─► the message itself   not a query, malformed, another class …   FORMERR, NOTIMP, REFUSED
          ─► hosts, localhost     what the profile and the sandbox name      the addresses they have
          ─► special names        never to leave; of one label; addresses
                                  in disguise                                NXDOMAIN
          ─► the mode             names: an address of the pool stands for the name; nothing leaves
                                  tor: cache, then the upstream's resolve, which need not be Tor's
                                  off: REFUSED

Rules that hold in every mode:

- Nothing a guest sends raises, and everything it can make grow is bounded (pool, cache, questions).
- Types other than A, AAAA and PTR get NODATA at once, HTTPS and SVCB among them, so that no browser
  waits for them or learns an address by a way round; AAAA does where the upstream takes no IPv6.
- A name that is an address in disguise ("127.1", "0x7f000001") is refused: a proxy would connect
  to it as to an address, behind the back of every rule about addresses.
- So is one that only becomes such an address, or a name that must not leave, when it is made ASCII.
- A name of one label is never sent out: no site has one, but a proxy's own machine has, as its network
  does ("printer", "_gateway"), and a search domain would turn it into something else again.
- A name goes out as raw bytes in lower case (a resolver's 0x20 games would spoil cache and pool).

It does not log names, cut TCP into messages (the caller strips and adds the two bytes of length) or
decide where a connection may go.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Container, Mapping, Sequence

from torbox.netstack.lookups import Lookups, Outcome, Resolve
from torbox.netstack.name_pool import NamePool
from torbox.netstack.wire import dns as wire
from torbox.netstack.wire.dns import AAAA, NOERROR, NXDOMAIN, PTR, REFUSED, SERVFAIL, A, Query, Record

POOL_TTL_S = 60  # the mapping is stable while in use; a short life lets the pool forget what is not
HOSTS_TTL_S = 60
NEGATIVE_TTL_S = 60
MODES = ("names", "tor", "off")

Reply = Callable[[bytes], None]

# Top-level names that mean nothing in the public tree; asking for them would only tell a stranger.
NOWHERE = frozenset(
    (
        b"alt",  # RFC 9476
        b"arpa",  # but for reverse names: home, ipv4only, resolver are local matters (RFC 8375, 8880, 9462)
        *(b"corp", b"home", b"intranet", b"lan", b"private"),  # private networks' habits, RFC 6762 appendix G
        b"exit",  # Tor's notation that chooses an exit: not for a guest to do
        b"internal",  # ICANN 2024: private; metadata.google.internal is one
        b"invalid",  # RFC 6761
        b"local",  # RFC 6762
        *(b"localdomain", b"localdomain4", b"localdomain6"),  # the proxy's own loopback, by Red Hat's habit
    )
)
# A browser that gets NXDOMAIN for this does not turn to DNS over HTTPS by itself (Mozilla's canary).
CANARY = b"use-application-dns.net"
# What no label of a host name has (WHATWG URL's "forbidden domain code points", quotes, braces and the dot):
# control characters, and what addresses and URLs are made of.
FORBIDDEN = frozenset(bytes(range(0x21)) + b'"#%./:<>?@[\\]^`{|}' + b"\x7f")
NAME_MAX = 253  # bytes of a name as text, which 255 in the wire format are
LABEL_MAX = 63  # bytes
# The labels of an IPv6 address's reverse name; bytes.fromhex takes white space too.
NIBBLES = frozenset(b"%c" % digit for digit in b"0123456789abcdefABCDEF")
FAMILIES = {A: 4, AAAA: 6}
# What has no effect in a name (Unicode's Default_Ignorable_Code_Point, as far as it is assigned), and the
# full stops of RFC 3490 §3.1.
_UNMASKED: dict[int, str | None] = dict.fromkeys(
    (
        *(0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), *range(0x200B, 0x2010)),
        *(*range(0x202A, 0x202F), *range(0x2060, 0x2070), 0x3164, *range(0xFE00, 0xFE10), 0xFEFF, 0xFFA0),
        *(*range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B), 0xE0001, *range(0xE0020, 0xE0080)),
        *range(0xE0100, 0xE01F0),
    )
)
_UNMASKED.update(dict.fromkeys((0x3002, 0xFF0E, 0xFF61), "."))
LOOPBACK4, LOOPBACK6 = bytes((127, 0, 0, 1)), bytes(15) + b"\x01"


class NameService:
    """Answers queries. `hosts` has lower-case names without final dot, and packed addresses.

    `resolve(name or packed address, "A" | "AAAA" | "PTR", done)` is needed in mode "tor" alone and
    calls `done(answers, ttl_s, failed)` once: packed addresses, or names for "PTR". `nowhere` are more
    names that do not exist, in lower case and without final dot.
    """

    def __init__(
        self,
        *,
        mode: str,
        pool: NamePool,
        hosts: Mapping[bytes, Sequence[bytes]],
        takes_onions: bool,
        takes_ipv6: bool,
        resolve: Resolve | None = None,
        nowhere: Container[bytes] = (),
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"no such mode: {mode}")
        if mode == "tor" and resolve is None:
            raise ValueError("mode tor needs somebody who resolves")
        self.mode = mode
        self.pool = pool
        self.hosts = {b"localhost": (LOOPBACK4, LOOPBACK6), **hosts}
        self.takes_onions = takes_onions
        self.takes_ipv6 = takes_ipv6
        self._nowhere = nowhere
        self._lookups = Lookups(resolve) if resolve is not None else None
        self._host_of: dict[bytes, bytes] = {}
        for name, addresses in self.hosts.items():
            for address in addresses:
                self._host_of.setdefault(address, name)

    def warm_up(self) -> None:
        """Import the message format's library, 55 ms that the first query would wait for otherwise."""
        wire.warm_up()

    def answer(self, query: bytes, now: float, reply: Reply, *, tcp: bool = False) -> bool:
        """Answer one message: `reply` is called once, now or later. False if it deserves no answer."""
        asked = wire.parse(query)
        if asked is None:
            return False
        answer = _Answer(asked, wire.TCP_SIZE if tcp else asked.udp_size, reply)
        if asked.rcode != NOERROR:
            answer.fail(asked.rcode)
        elif asked.rdclass != wire.IN:
            answer.fail(REFUSED)
        elif asked.rdtype == PTR:
            self._answer_reverse(asked.labels, now, answer)
        else:
            self._answer_forward(asked.labels, asked.rdtype, now, answer)
        return True

    def _answer_forward(self, labels: tuple[bytes, ...], rdtype: int, now: float, answer: _Answer) -> None:
        name = b".".join(labels).lower()
        if not name.isascii() and self._is_masked(name):
            answer.nothing(NXDOMAIN)
            return
        top = name.rpartition(b".")[2]
        addresses = self.hosts.get(b"localhost" if top == b"localhost" else name)  # RFC 6761 §6.3
        if addresses is not None:
            answer.addresses(rdtype, addresses, HOSTS_TTL_S)
        elif not name:
            answer.nothing(NOERROR)
        elif len(labels) == 1 or top in NOWHERE or self._is_nowhere(name) or not is_host_name(labels):
            answer.nothing(NXDOMAIN)
        elif top == b"onion" and not self.takes_onions:
            answer.nothing(NXDOMAIN)  # RFC 7686 §2
        elif self.mode == "off":
            answer.fail(REFUSED)
        elif rdtype not in FAMILIES or (rdtype == AAAA and not self.takes_ipv6):
            answer.nothing(NOERROR)
        elif self._lookups is None or self.mode == "names" or top == b"onion":
            answer.addresses(rdtype, (self.pool.address_for(name, FAMILIES[rdtype]),), POOL_TTL_S)
        else:
            kind = "A" if rdtype == A else "AAAA"
            self._lookups.ask(name, kind, now, lambda outcome: answer.looked_up(rdtype, outcome))

    def _is_masked(self, name: bytes) -> bool:
        """Whether the name means what must not leave to a proxy that makes it ASCII."""
        plain = unmasked(name)
        if plain == name:
            return False
        return self._is_local(plain) or plain.endswith(b".onion") or not is_host_name(plain.split(b"."))

    def _is_nowhere(self, name: bytes) -> bool:
        return name == CANARY or name in self._nowhere

    def _answer_reverse(self, labels: tuple[bytes, ...], now: float, answer: _Answer) -> None:
        address = parse_reverse_name(labels)
        if address is None:
            self._answer_forward(labels, PTR, now, answer)  # which knows no PTR records of other names
            return
        name = self._host_of.get(address) or self.pool.name_of(address)
        if name is None and address[0] == 127 and len(address) == 4:
            name = b"localhost"
        if name is not None:
            answer.names((name,), POOL_TTL_S)
        elif self.mode == "off":
            answer.fail(REFUSED)
        elif self._lookups is None or self.mode == "names" or not is_public(address):
            answer.nothing(NXDOMAIN)  # RFC 6303: of private addresses nobody outside knows or should hear
        else:
            self._lookups.ask(address, "PTR", now, lambda it: answer.looked_up(PTR, self._of_the_world(it)))

    def _of_the_world(self, outcome: Outcome) -> Outcome:
        """The answer to a reverse query without names that would not be asked for either.

        A machine's resolver knows its own: from its file of hosts, or for its own address its host name.
        """
        return outcome._replace(answers=tuple(name for name in outcome.answers if not self._is_local(name)))

    def _is_local(self, name: bytes) -> bool:
        name = name.lower().rstrip(b".")
        _, dot, top = name.rpartition(b".")
        return not dot or top in NOWHERE or top == b"localhost" or self._is_nowhere(name)


class _Answer:
    """One query's way back to who asked it."""

    __slots__ = ("_query", "_reply", "_size")

    def __init__(self, query: Query, size: int, reply: Reply) -> None:
        self._query = query
        self._size = size
        self._reply = reply

    def fail(self, rcode: int) -> None:
        self._reply(wire.emit(self._query, rcode, size=self._size))

    def nothing(self, rcode: int) -> None:
        """There is no such name (NXDOMAIN), or it has no such record (NOERROR)."""
        self._reply(wire.emit(self._query, rcode, negative_ttl_s=NEGATIVE_TTL_S, size=self._size))

    def addresses(self, rdtype: int, addresses: Sequence[bytes], ttl_s: int) -> None:
        """Those of the addresses that are of the type asked for."""
        size = {A: 4, AAAA: 16}.get(rdtype)
        self._records([Record(rdtype, ttl_s, address) for address in addresses if len(address) == size])

    def names(self, names: Sequence[bytes], ttl_s: int) -> None:
        records = []
        for name in names:
            labels = name.removesuffix(b".").split(b".")
            if len(name) <= NAME_MAX and all(0 < len(label) <= LABEL_MAX for label in labels):
                records.append(Record(PTR, ttl_s, wire.emit_labels(labels)))
        self._records(records)

    def looked_up(self, rdtype: int, outcome: Outcome) -> None:
        if outcome.failed:
            self.fail(SERVFAIL)
        elif not outcome.answers:
            # Whether the name has other types was not said; NXDOMAIN for AAAA would spoil a good A in caches.
            self.nothing(NOERROR if rdtype == AAAA else NXDOMAIN)
        elif rdtype == PTR:
            self.names(outcome.answers, outcome.ttl_s)
        else:
            self.addresses(rdtype, outcome.answers, outcome.ttl_s)

    def _records(self, records: list[Record]) -> None:
        if records:
            self._reply(wire.emit(self._query, NOERROR, records, size=self._size))
        else:
            self.nothing(NOERROR)


def is_host_name(labels: Sequence[bytes]) -> bool:
    """Whether labels make a name that a proxy can only take for a name.

    False for a label that hides a dot, a control character or what addresses and URLs are made of,
    and for what ends in a number, which inet_aton(3) and browsers read as an IPv4 address.
    """
    if sum(map(len, labels)) + len(labels) - 1 > NAME_MAX:
        return False
    if any(byte in FORBIDDEN for label in labels for byte in label):
        return False
    last = labels[-1].lower()
    if last.startswith(b"0x"):
        return bool(last[2:].strip(b"0123456789abcdef"))
    return not last.isdigit()


def unmasked(name: bytes) -> bytes:
    """The name as software reads it that makes names ASCII before it resolves them: RFC 3490, UTS 46.

    Python's getaddrinfo takes "127。0。0。1" for 127.0.0.1, as browsers do, and a zero-width space for
    nothing. What is other than ASCII even then stays, in UTF-8; what is not UTF-8 is as it was.
    """
    if name.isascii():
        return name
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return name
    for _ in range(2):  # folding case can leave what has a compatible form again
        text = unicodedata.normalize("NFKC", text.translate(_UNMASKED)).casefold()
    return text.translate(_UNMASKED).encode("utf-8")


def parse_reverse_name(labels: Sequence[bytes]) -> bytes | None:
    """The packed address whose reverse name this is (RFC 1035 §3.5, RFC 3596 §2.5), if it is one."""
    zone = b".".join(labels[-2:]).lower()
    parts = labels[-3::-1]
    if zone == b"in-addr.arpa" and len(parts) == 4:
        if all(part.isdigit() and len(part) <= 3 and int(part) < 256 for part in parts):
            return bytes(map(int, parts))
    elif zone == b"ip6.arpa" and len(parts) == 32 and all(part in NIBBLES for part in parts):
        return bytes.fromhex(b"".join(parts).decode("ascii"))
    return None


def is_public(address: bytes) -> bool:
    """Whether a reverse name of this address may leave: not if it is of the special ranges (RFC 6890)."""
    if len(address) == 16:
        special = (
            (address[:2] == b"\x20\x01" and address[2] < 2)  # 2001::/23
            or address[:4] == b"\x20\x01\x0d\xb8"  # 2001:db8::/32
            or address[:2] == b"\x20\x02"  # 2002::/16
        )
        return 0x20 <= address[0] <= 0x3F and not special  # 2000::/3, all that is given out
    first, second = address[0], address[1]
    return not (
        first in (0, 10, 127)
        or first >= 224
        or (first == 100 and 64 <= second < 128)
        or (first == 169 and second == 254)
        or (first == 172 and 16 <= second < 32)
        or (first == 192 and second == 168)
        or address[:3] == b"\xc0\x00\x00"
        or (first == 198 and second in (18, 19))
    )
