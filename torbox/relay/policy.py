# SPDX-License-Identifier: GPL-3.0-or-later
"""Which targets may go out. One pure decision per connection, made on what will really be asked for.

    locked, whatever it is      ─► PROHIBITED
    denied by a rule            ─► PROHIBITED
    allowed by a rule           ─► goes out, even to a special range
    special range (RFC 6890)    ─► PROHIBITED: loopback, private nets, link-local with its metadata, ...
    any other IPv6 but 2000::/3 ─► PROHIBITED
    this machine's own address, if it would go out ─► TIMED_OUT: silence, see Rules
    a name that is an address in disguise, of one label, of no public tree, or of this machine ─► PROHIBITED
    and one that is such a name once it is made ASCII                                          ─► PROHIBITED

Addresses that carry an IPv4 address (NAT64, 6to4) are judged by that one. The name service refuses
the same names; this is the second lock, behind it, and the only one for what does not come by DNS.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import NamedTuple

from torbox.netstack.dns import NOWHERE, unmasked
from torbox.netstack.flow import Refusal
from torbox.upstream.interface import Target

MAX_NAME = 255  # bytes, what SOCKS 5 can carry


class Network(NamedTuple):
    """An address range: its family by the size of an address in bytes; `value` is the prefix, as a number."""

    size: int
    mask: int
    value: int


def network(text: str) -> Network:
    """From "10.0.0.0/8", "fd00::/8" or one address. ValueError for others and for bits behind the prefix."""
    address, slash, length_text = text.partition("/")
    for family, size in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
        try:
            packed = socket.inet_pton(family, address)
        except (OSError, ValueError):
            continue
        bits = size * 8
        if slash and not (length_text.isascii() and length_text.isdigit() and int(length_text) <= bits):
            break
        length = int(length_text) if slash else bits
        mask = (1 << bits) - (1 << (bits - length))
        value = int.from_bytes(packed, "big")
        if value & ~mask:
            break
        return Network(size, mask, value)
    raise ValueError(f"{text!r} is not a network")


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(network(text) for text in texts)


# What is not globally reachable by IANA's registries of special-purpose addresses (RFC 6890), and multicast.
# The few of 192.0.0.0/24 and 2001::/23 that are (anycast relays, RFC 7723 and others) are no sites.
SPECIAL4 = _networks(
    "0.0.0.0/8",  # this network; Linux takes 0.0.0.0 for loopback
    "10.0.0.0/8",  # private, RFC 1918
    "100.64.0.0/10",  # shared by carriers, RFC 6598
    "127.0.0.0/8",  # loopback
    "169.254.0.0/16",  # link-local, RFC 3927; 169.254.169.254 gives out a cloud's credentials
    "172.16.0.0/12",  # private
    "192.0.0.0/24",  # IETF assignments, RFC 6890
    "192.0.2.0/24",  # documentation, RFC 5737
    "192.88.99.0/24",  # relays of 6to4, RFC 7526: there are none any more
    "192.168.0.0/16",  # private
    "198.18.0.0/15",  # benchmarks, RFC 2544; here the pool of names, whose connections go by name
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, and the limited broadcast
)
SPECIAL6 = _networks(
    "2001::/23",  # IETF assignments, RFC 2928: Teredo, ORCHID, benchmarks
    "2001:db8::/32",  # documentation, RFC 3849
    "3fff::/20",  # documentation, RFC 9637
)
GLOBAL6 = network("2000::/3")  # all that is assigned, RFC 4291 §2.4
NAT64 = network("64:ff9b::/96")  # RFC 6052: the IPv4 address is the last four bytes
SIX_TO_FOUR = network("2002::/16")  # RFC 3056: it follows the prefix

# What names of a proxy's own machine and of its network end in.
LOCAL_NAMES = NOWHERE | {b"localhost", b"localhost6", b"ip6-localhost", b"ip6-loopback"}


@dataclass(frozen=True, slots=True)
class Rules:
    """What an upstream can take, and the exceptions to the special ranges. `denied` comes before `allowed`.

    `own` and `own_names` are this machine's, which a proxy on it or near it must not be asked for, whatever
    is allowed. An own address is as its neighbours are: those that go out are mostly not there, so it is
    silent, and in a range of which nothing goes out it is prohibited like all others. Any other answer would
    tell it from them, and a guest that tries the whole Internet, or just 192.168.0.0/16, would know which
    address this machine has.
    """

    takes_names: bool = True
    takes_onions: bool = False
    takes_ipv6: bool = True
    allowed: tuple[Network, ...] = ()
    denied: tuple[Network, ...] = ()
    own: tuple[Network, ...] = ()
    own_names: frozenset[bytes] = frozenset()  # in lower case, without final dot
    locked: bool = False  # nothing goes out at all: an upstream that needs routing, and it is off


def judge(target: Target, rules: Rules) -> Refusal | None:
    """None if the target may go out, else what the guest is to see."""
    if rules.locked:
        return Refusal.PROHIBITED
    if not 0 < target.port < 65536:
        return Refusal.REFUSED
    if target.name:
        return Refusal.PROHIBITED if target.address else _judge_name(target.name, rules)
    if len(target.address) not in (4, 16):
        return Refusal.PROHIBITED
    return _judge_address(target.address, rules)


def _judge_address(address: bytes, rules: Rules) -> Refusal | None:
    why = _judge_range(address, rules)
    if why is None and _within(len(address), int.from_bytes(address, "big"), rules.own):
        return Refusal.TIMED_OUT
    return why


def _judge_range(address: bytes, rules: Rules) -> Refusal | None:
    """As if no address were this machine's, but for those within others."""
    size, value = len(address), int.from_bytes(address, "big")
    if _within(size, value, rules.denied):
        return Refusal.PROHIBITED
    if size == 16 and not rules.takes_ipv6:
        return Refusal.NET_UNREACHABLE
    if _within(size, value, rules.allowed):
        return None
    if size == 4:
        return Refusal.PROHIBITED if _within(4, value, SPECIAL4) else None
    if value & NAT64.mask == NAT64.value:
        return _judge_address(address[12:], rules)
    if value & SIX_TO_FOUR.mask == SIX_TO_FOUR.value:
        return _judge_address(address[2:6], rules)
    if value & GLOBAL6.mask != GLOBAL6.value or _within(16, value, SPECIAL6):
        return Refusal.PROHIBITED
    return None


def _within(size: int, value: int, networks: tuple[Network, ...]) -> bool:
    return any(size == it.size and value & it.mask == it.value for it in networks)


def _judge_name(name: bytes, rules: Rules) -> Refusal | None:
    if not rules.takes_names:
        return Refusal.HOST_UNREACHABLE
    if len(name) > MAX_NAME:
        return Refusal.PROHIBITED
    plain = unmasked(name)
    if plain != name and _judge_text(plain, rules) is not None:
        return Refusal.PROHIBITED
    return _judge_text(name, rules)


def _judge_text(name: bytes, rules: Rules) -> Refusal | None:
    if is_disguised_address(name):
        return Refusal.PROHIBITED
    name = name.lower().rstrip(b".")
    _, dot, last = name.rpartition(b".")
    if not dot or last in LOCAL_NAMES or name in rules.own_names:
        return Refusal.PROHIBITED
    if last == b"onion" and not rules.takes_onions:
        return Refusal.PROHIBITED
    return None


def is_disguised_address(name: bytes) -> bool:
    """Whether a proxy might take this name for an address, or for less than all of it.

    inet_aton(3) reads 127.1, 0x7f.1, 017700000001 and stops at white space; a C string ends at a zero;
    and what holds a colon, brackets, a percent or a slash is an IPv6 address or a URL to somebody.
    """
    if any(byte <= 0x20 or byte == 0x7F or byte in b"%/:@[]" for byte in name):
        return True
    last = name.rstrip(b".").rpartition(b".")[2].lower()
    if last.startswith(b"0x"):
        return not last[2:].strip(b"0123456789abcdef")
    return not last or last.isdigit()
