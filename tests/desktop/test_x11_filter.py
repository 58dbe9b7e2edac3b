# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests of an untrusted program, in either byte order and in pieces: what goes on, and what comes back."""

from __future__ import annotations

import struct

import pytest

from torbox.desktop.x11_filter import Clients, Filter, Numbers

ROOT, BASE, MASK, OTHERS = 0x100, 0x400000, 0x1FFFFF, 0x200001
OWN = BASE | 1
PRIMARY, CLIPBOARD, OTHER_SELECTION = 1, 300, 301
OUR_PRIMARY, OUR_CLIPBOARD, NOTHING = 400, 401, 402
RESOURCES, CHECK, PING, PROTOCOLS, TITLE = 23, 310, 311, 312, 39
BIG = 133
KNOWN = Numbers(
    selections={PRIMARY: OUR_PRIMARY, CLIPBOARD: OUR_CLIPBOARD},
    nothing=NOTHING,
    readable=frozenset((RESOURCES, CHECK)),
    check=CHECK,
    ping=PING,
    protocols=PROTOCOLS,
    big_requests=BIG,
)
ORDERS = [pytest.param("<", id="little-endian"), pytest.param(">", id="big-endian")]


def setup_reply(order: str, base: int = BASE) -> bytes:
    """A server's, with a vendor of three letters, one format, one screen and one depth of two visuals."""
    screen = struct.pack(f"{order}I35xB", ROOT, 1) + struct.pack(f"{order}BxHxxxx", 24, 2) + bytes(48)
    head = struct.pack(f"{order}IIIIHHBB10x", 11, base, MASK, 0, 3, 65535, 1, 1)
    body = head + b"abc\0" + bytes(8) + screen
    return struct.pack(f"{order}BxHHH", 1, 11, 0, len(body) // 4) + body


def let_in(order: str, clients: Clients, base: int = BASE) -> Filter:
    client = clients.enter()
    mark = {"<": b"l", ">": b"B"}[order]
    client.feed(struct.pack(f"{order}cxHHHHxx", mark, 11, 0, 0, 0))
    answer = setup_reply(order, base)
    assert client.reply(answer) == answer
    return client


def request(order: str, opcode: int, *fields: int, detail: int = 0, rest: bytes = b"") -> bytes:
    body = struct.pack(f"{order}{len(fields)}I", *fields) + rest
    return struct.pack(f"{order}BBH", opcode, detail, 1 + len(body) // 4) + body


def event(order: str, kind: int, *fields: int, detail: int = 0) -> bytes:
    return struct.pack(f"{order}BBH{len(fields)}I", kind, detail, 7, *fields).ljust(32, b"\0")


def judged(order: str, said: bytes) -> bytes:
    """What goes on of a request, however it comes in pieces."""
    found = set()
    for step in (1, 3, 4, 9, len(said)):
        client = let_in(order, Clients(b"", KNOWN))
        pieces = (said[at : at + step] for at in range(0, len(said), step))
        found.add(b"".join(client.feed(piece)[0] for piece in pieces))
    (only,) = found
    return only


def nothing(said: bytes) -> bytes:
    return b"\x7f" + said[1:]


@pytest.mark.parametrize(("order", "mark"), [("<", b"l"), (">", b"B")])
def test_whatever_a_client_says_it_is_the_sandboxs_cookie_that_goes_on(order: str, mark: bytes) -> None:
    first = request(order, 43)
    said = struct.pack(f"{order}cxHHHHxx", mark, 11, 0, 4, 3) + b"NAMEabc\0" + first
    wanted = struct.pack(f"{order}cxHHHHxx", mark, 11, 0, 18, 16) + b"MIT-MAGIC-COOKIE-1\0\0" + b"c" * 16
    for step in (1, 5, 12, len(said)):
        client, on = Clients(b"c" * 16, KNOWN).enter(), b""
        for at in range(0, len(said), step):
            on += client.feed(said[at : at + step])[0]
        assert on == wanted + first
    assert Clients(b"c", KNOWN).enter().feed(b"")[0] == b""
    with pytest.raises(ValueError, match="not X11"):
        Clients(b"c", KNOWN).enter().feed(b"GET / HTTP/1.0")


@pytest.mark.parametrize("order", ORDERS)
def test_selections_go_on_under_names_of_the_sandboxs_own(order: str) -> None:
    for name, private in KNOWN.selections.items():
        assert judged(order, request(order, 22, OWN, name, 0)) == request(order, 22, OWN, private, 0)
        assert judged(order, request(order, 22, 0, name, 0)) == request(order, 22, 0, private, 0)
        assert judged(order, request(order, 23, name)) == request(order, 23, private)
        asked = request(order, 24, OWN, name, 5, 6, 0)
        assert judged(order, asked) == request(order, 24, OWN, private, 5, 6, 0)
    # Any other is owned by nobody, and so are the private names when they are said by the program.
    for name in (OTHER_SELECTION, OUR_CLIPBOARD):
        taking = request(order, 22, OWN, name, 0)
        assert judged(order, taking) == nothing(taking)
        assert judged(order, request(order, 23, name)) == request(order, 23, NOTHING)
        assert judged(order, request(order, 24, OWN, name, 5, 6, 0)) == request(
            order, 24, OWN, NOTHING, 5, 6, 0
        )
    for elsewhere in (OTHERS, ROOT):
        asked = request(order, 24, elsewhere, CLIPBOARD, 5, 6, 0)
        assert judged(order, asked) == nothing(asked)
        taking = request(order, 22, elsewhere, CLIPBOARD, 0)
        assert judged(order, taking) == nothing(taking)


@pytest.mark.parametrize("order", ORDERS)
def test_selections_come_back_under_the_names_the_program_knows(order: str) -> None:
    client = let_in(order, Clients(b"", KNOWN))
    client.feed(request(order, 24, OWN, OTHER_SELECTION, 5, 6, 0))
    told = (
        event(order, 29, 0, OWN, OUR_CLIPBOARD),
        event(order, 30, 0, OWN, OWN, OUR_PRIMARY, 5, 6),
        event(order, 31, 0, OWN, NOTHING, 5, 0),
        event(order, 31 | 0x80, 0, OWN, OUR_CLIPBOARD, 5, 6),
        struct.pack(f"{order}BBHI", 1, 0, 7, 3) + bytes(24) + event(order, 29, 0, OWN, OUR_CLIPBOARD)[:12],
        event(order, 28, OWN, OUR_CLIPBOARD),  # PropertyNotify
    )
    wanted = (
        event(order, 29, 0, OWN, CLIPBOARD),
        event(order, 30, 0, OWN, OWN, PRIMARY, 5, 6),
        event(order, 31, 0, OWN, OTHER_SELECTION, 5, 0),
        event(order, 31 | 0x80, 0, OWN, CLIPBOARD, 5, 6),
        *told[4:],
    )
    said = b"".join(told)
    for step in (len(said),):
        back = b"".join(client.reply(said[at : at + step]) for at in range(0, len(said), step))
        assert back == b"".join(wanted)
    client.feed(request(order, 24, OWN, OTHER_SELECTION, 5, 6, 0))
    assert b"".join(client.reply(said[at : at + 1]) for at in range(len(said))) == b"".join(wanted)
    # And one program of the sandbox answers another: the event it sends is translated, too.
    answer = event(order, 31, 0, OWN, CLIPBOARD, 5, 6)
    sent = event(order, 31, 0, OWN, OUR_CLIPBOARD, 5, 6)
    assert client.feed(request(order, 25, OWN, 0, rest=answer))[0] == request(order, 25, OWN, 0, rest=sent)


@pytest.mark.parametrize("order", ORDERS)
def test_properties_of_others_are_not_there_but_for_what_is_needed_of_the_root_window(order: str) -> None:
    def asked(window: int, name: int, delete: int = 0) -> bytes:
        return request(order, 20, window, name, 0, 0, 99, detail=delete)

    for passes in (asked(OWN, TITLE, 1), asked(ROOT, RESOURCES), asked(OTHERS, CHECK)):
        assert judged(order, passes) == passes
    for window, name in ((ROOT, TITLE), (OTHERS, TITLE), (OTHERS, RESOURCES)):
        assert judged(order, asked(window, name, 1)) == asked(window, NOTHING)


@pytest.mark.parametrize("order", ORDERS)
def test_what_is_somebody_elses_is_neither_changed_nor_read(order: str) -> None:
    for opcode in (4, 8, 10, 12, 18, 19, 28, 33, 42, 61, 65, 72, 113, 114):
        for window, passes in ((OWN, True), (OTHERS, False), (ROOT, False), (0, False)):
            said = request(order, opcode, window, 1, 1)
            assert judged(order, said) == (said if passes else nothing(said)), opcode
    for opcode in (21, 26, 31, 73):  # whose answer is waited for
        assert judged(order, request(order, opcode, OTHERS, 1)) == request(order, opcode, 0, 1)
        if opcode != 31:
            assert judged(order, request(order, opcode, OWN, 1)) == request(order, opcode, OWN, 1)
    assert judged(order, request(order, 31, OWN, 0, 0)) == request(order, 39, OWN, 2, 1)  # GetMotionEvents
    copied = request(order, 62, ROOT, OWN, 1, 0, 0, 0)
    assert judged(order, copied) == nothing(copied)
    warped = request(order, 41, 0, OTHERS, 0, 0, 0)
    assert judged(order, warped) == nothing(warped)
    for opcode in (36, 37, 112):
        assert judged(order, request(order, opcode)) == nothing(request(order, opcode))
    for opcode in (3, 14, 15, 38, 43, 44, 98):
        assert judged(order, request(order, opcode, ROOT)) == request(order, opcode, ROOT)
    for parent, passes in ((ROOT, True), (OWN, True), (OTHERS, False)):
        made = request(order, 1, OWN, parent, 0, 0, 0, 0, 0)
        assert judged(order, made) == (made if passes else nothing(made))


@pytest.mark.parametrize("order", ORDERS)
def test_of_the_root_window_a_program_hears_what_it_needs_and_of_others_nothing(order: str) -> None:
    everything = request(order, 2, ROOT, 0x800, 0xFFFFFF)
    assert judged(order, everything) == request(order, 2, ROOT, 0x800, 0x420000)
    for said in (request(order, 2, ROOT, 0x2, 5), request(order, 2, OTHERS, 0x800, 0x400000)):
        assert judged(order, said) == nothing(said)
    assert judged(order, request(order, 2, OWN, 0x800, 3)) == request(order, 2, OWN, 0x800, 3)


@pytest.mark.parametrize("order", ORDERS)
def test_events_are_sent_to_its_own_windows_and_about_these_to_the_window_manager(order: str) -> None:
    def sent(destination: int, kind: int, *fields: int) -> bytes:
        return request(order, 25, destination, 0, rest=event(order, kind, *fields, detail=32))

    for passes in (
        sent(OWN, 2, 0, ROOT, OWN),
        sent(ROOT, 33, OWN, 555),
        sent(ROOT, 18, ROOT, OWN),
        sent(ROOT, 33, ROOT, PROTOCOLS, PING),
    ):
        assert judged(order, passes) == passes
    for refused in (
        sent(OTHERS, 33, OTHERS, PROTOCOLS),
        sent(ROOT, 33, OTHERS, 555),
        sent(ROOT, 33, ROOT, 555),
        sent(ROOT, 33 | 0x80, OTHERS, 555),
        sent(ROOT, 18, ROOT, OTHERS),
        sent(ROOT, 31, OWN, CLIPBOARD),
        sent(0, 33, OWN, 555),
        sent(1, 33, OWN, 555),
    ):
        assert judged(order, refused) == nothing(refused)


@pytest.mark.parametrize("order", ORDERS)
def test_the_programs_of_a_sandbox_share_windows_as_long_as_they_are_there(order: str) -> None:
    clients = Clients(b"", KNOWN)
    client, another = let_in(order, clients), let_in(order, clients, 0x600000)
    said = request(order, 18, 0x600005, 1)
    assert client.feed(said)[0] == said
    del another
    assert client.feed(said)[0] == nothing(said)
    before = clients.enter()  # what is said before the server's answer is about nothing of one's own
    before.feed(struct.pack("<cxHHHHxx", b"l", 11, 0, 0, 0))
    early = request("<", 18, 0x600005, 1)
    assert before.feed(early)[0] == nothing(early)


@pytest.mark.parametrize("order", ORDERS)
def test_big_requests_are_judged_once_the_server_reads_them(order: str) -> None:
    def big(opcode: int, *fields: int, rest: bytes = b"") -> bytes:
        body = struct.pack(f"{order}{len(fields)}I", *fields) + rest
        return struct.pack(f"{order}BBHI", opcode, 0, 0, 2 + len(body) // 4) + body

    enable = request(order, BIG)
    hidden = request(order, 24, OTHERS, CLIPBOARD, 5, 6, 0) * 30
    said = big(72, OWN, rest=hidden) + big(22, OWN, CLIPBOARD, 0) + big(18, OTHERS, 1, rest=hidden)
    wanted = said[: len(big(72, OWN, rest=hidden))] + big(22, OWN, OUR_CLIPBOARD, 0)
    wanted += nothing(big(18, OTHERS, 1, rest=hidden))
    assert judged(order, enable + said) == enable + wanted
    for refused in (big(72, OWN), request(order, BIG, 0) + big(72, OWN), enable + big(72)[:4] + bytes(4)):
        with pytest.raises(ValueError, match="a request"):
            let_in(order, Clients(b"", KNOWN)).feed(refused)


@pytest.mark.parametrize("order", ORDERS)
def test_what_is_cut_short_asks_nothing_and_what_follows_is_judged(order: str) -> None:
    for opcode in (2, 18, 20, 21, 22, 23, 24, 25):
        said = request(order, opcode) + request(order, 18, OTHERS, 1)
        assert judged(order, said) == nothing(request(order, opcode)) + nothing(request(order, 18, OTHERS, 1))


def test_what_waits_for_answers_is_bounded_and_a_damaged_set_up_is_not_believed() -> None:
    client = let_in("<", Clients(b"", KNOWN))
    with pytest.raises(ValueError, match="more selections"):
        client.feed(request("<", 24, OWN, OTHER_SELECTION, 5, 6, 0) * 2000)
    client = Clients(b"", KNOWN).enter()
    client.feed(struct.pack("<cxHHHHxx", b"l", 11, 0, 0, 0))
    with pytest.raises(ValueError, match="no X server"):
        client.reply(struct.pack("<BxHHH", 1, 11, 0, 2) + bytes(8))
    refusal = struct.pack("<BxHHH", 0, 11, 0, 1) + b"no!!"
    client = Clients(b"", KNOWN).enter()
    client.feed(struct.pack("<cxHHHHxx", b"l", 11, 0, 0, 0))
    assert client.reply(refusal) == refusal
