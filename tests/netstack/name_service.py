# SPDX-License-Identifier: GPL-3.0-or-later
"""A name service and who asks it, judged by dnspython's message reader."""

from __future__ import annotations

import ipaddress

import dns.message
import dns.reversename

from torbox.netstack.dns import NameService
from torbox.netstack.lookups import Done
from torbox.netstack.name_pool import NamePool

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
HOSTS = {
    b"gateway.torbox": (ipaddress.ip_address("10.0.2.2").packed, ipaddress.ip_address("fd00::2").packed),
    b"printer": (ipaddress.ip_address("192.0.2.7").packed,),
    b"many": tuple(bytes((10, 9, 9, last)) for last in range(100)),
}


class Upstream:
    """Remembers what leaves; answers what it was given, at once."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, str]] = []
        self.answers: dict[str, tuple[bytes, ...]] = {}
        self.failed = False

    def __call__(self, name: bytes, kind: str, done: Done) -> None:
        self.asked.append((name, kind))
        done(self.answers.get(kind, ()), 300, self.failed)


class Bench:
    def __init__(
        self,
        mode: str,
        *,
        takes_onions: bool = True,
        takes_ipv6: bool = True,
        nowhere: tuple[bytes, ...] = (),
    ) -> None:
        self.pool = NamePool()
        self.upstream = Upstream()
        self.service = NameService(
            mode=mode,
            pool=self.pool,
            hosts=HOSTS,
            takes_onions=takes_onions,
            takes_ipv6=takes_ipv6,
            resolve=self.upstream,
            nowhere=nowhere,
        )

    def send(self, message: bytes, now: float = 0.0, *, tcp: bool = False) -> list[bytes]:
        replies: list[bytes] = []
        self.service.answer(message, now, replies.append, tcp=tcp)
        return replies

    def ask(self, name: str, rdtype: str = "A", now: float = 0.0) -> dns.message.Message:
        query = dns.message.make_query(name, rdtype)
        (reply,) = self.send(query.to_wire(), now)
        answer = dns.message.from_wire(reply)
        assert query.is_response(answer)
        return answer

    def addresses(self, name: str, rdtype: str = "A") -> list[str]:
        answer = self.ask(name, rdtype)
        assert answer.rcode() == NOERROR
        return [rdata.to_text() for rrset in answer.answer for rdata in rrset]

    def reverse(self, address: str) -> dns.message.Message:
        return self.ask(dns.reversename.from_address(address).to_text(), "PTR")
