# SPDX-License-Identifier: GPL-3.0-or-later
"""The network's DNS server: the names of the tests, and NXDOMAIN for every other.

Run as a program, `names.py DESCRIPTOR TABLE` (the table as JSON), it serves the socket it inherits and
prints a line per question, so that a test can see what was asked of the exits' resolver.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import sys
from collections.abc import Mapping, Sequence

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset

Table = Mapping[str, Sequence[str]]  # name in lower case without the final dot → its addresses
_TTL_S = 60


def answer(query: bytes, table: Table) -> bytes | None:
    """The reply to one query, or None if it is none that deserves one."""
    try:
        message = dns.message.from_wire(query)
        reply = dns.message.make_response(message, recursion_available=True)
    except dns.exception.DNSException:
        return None
    if len(message.question) != 1:
        reply.set_rcode(dns.rcode.FORMERR)
        return reply.to_wire()
    question = message.question[0]
    asked = question.name.to_text(omit_final_dot=True).lower()  # tor asks in mIxEd case (0x20)
    records = _pointers(table).get(asked) if question.rdtype == dns.rdatatype.PTR else None
    if asked in table:
        wanted = {dns.rdatatype.A: 4, dns.rdatatype.AAAA: 6}.get(question.rdtype)
        records = [text for text in table[asked] if ipaddress.ip_address(text).version == wanted]
    if records is None:
        reply.set_rcode(dns.rcode.NXDOMAIN)
    elif records:
        reply.answer.append(dns.rrset.from_text(question.name, _TTL_S, "IN", question.rdtype, *records))
    return reply.to_wire()


def _pointers(table: Table) -> dict[str, list[str]]:
    pointers: dict[str, list[str]] = {}
    for name, addresses in table.items():
        for address in addresses:
            reverse = dns.reversename.from_address(address).to_text(omit_final_dot=True)
            pointers.setdefault(reverse, []).append(f"{name}.")
    return pointers


def serve(receiver: socket.socket, table: Table) -> None:
    """Answer for ever."""
    while True:
        query, peer = receiver.recvfrom(4096)
        reply = answer(query, table)
        if reply is None:
            print("malformed", flush=True)
            continue
        receiver.sendto(reply, peer)
        question = dns.message.from_wire(reply)
        asked = question.question[0] if question.question else None
        if asked is not None:
            name = asked.name.to_text(omit_final_dot=True).lower()
            kind = dns.rdatatype.to_text(asked.rdtype)
            print(name, kind, dns.rcode.to_text(question.rcode()), flush=True)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), json.loads(sys.argv[2]))
