# SPDX-License-Identifier: GPL-3.0-or-later
"""The name server's answers, message by message."""

from __future__ import annotations

import dns.message
import dns.rcode

from tests.tornet.names import answer

TABLE = {"site.torbox.test": ["127.0.0.1"], "six.torbox.test": ["2001:db8::6"]}


def ask(name: str, kind: str) -> dns.message.Message:
    reply = answer(dns.message.make_query(name, kind).to_wire(), TABLE)
    assert reply is not None
    return dns.message.from_wire(reply)


def test_a_name_of_the_table_has_its_address() -> None:
    assert [str(rrset[0]) for rrset in ask("site.torbox.test", "A").answer] == ["127.0.0.1"]
    assert [str(rrset[0]) for rrset in ask("six.torbox.test", "AAAA").answer] == ["2001:db8::6"]


def test_mixed_case_is_answered_as_it_was_asked() -> None:
    reply = ask("sItE.TorBOX.test", "A")
    assert str(reply.question[0].name) == str(reply.answer[0].name) == "sItE.TorBOX.test."


def test_a_name_without_such_an_address_has_no_data() -> None:
    reply = ask("site.torbox.test", "AAAA")
    assert (reply.rcode(), reply.answer) == (dns.rcode.NOERROR, [])


def test_other_names_do_not_exist() -> None:
    assert ask("torbox.test", "A").rcode() == dns.rcode.NXDOMAIN
    assert ask("8.8.8.8.in-addr.arpa", "PTR").rcode() == dns.rcode.NXDOMAIN


def test_an_address_of_the_table_has_its_name() -> None:
    assert [str(rrset[0]) for rrset in ask("1.0.0.127.in-addr.arpa", "PTR").answer] == ["site.torbox.test."]


def test_what_is_no_query_is_not_answered() -> None:
    assert answer(b"", TABLE) is None
    assert answer(b"\xff" * 40, TABLE) is None
    query = dns.message.make_query("site.torbox.test", "A")
    assert answer(dns.message.make_response(query).to_wire(), TABLE) is None
