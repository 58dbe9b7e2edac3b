# SPDX-License-Identifier: GPL-3.0-or-later
"""Every state and what may arrive in it, RFC 9293 §3.10.7 and RFC 5961: packet traces, see playbook.py."""

from __future__ import annotations

import pytest

from tests.netstack.playbook import Playbook, established
from torbox.netstack.tcp.state import State

# How to get to each synchronised state; then our next number is OURS, and the guest's next THEIRS.
SCRIPTS = {
    "ESTABLISHED": ("", 1, 1),
    "FIN-WAIT-1": ("!! close\n<< F. 1:1 ack 1", 2, 1),
    "FIN-WAIT-2": ("!! close\n<< F. 1:1 ack 1\n>> . 1:1 ack 2 win 64000", 2, 1),
    "CLOSE-WAIT": (">> F. 1:1 ack 1 win 64000\n<< . 1:1 ack 2", 1, 2),
    "CLOSING": ("!! close\n<< F. 1:1 ack 1\n>> F. 1:1 ack 1 win 64000\n<< . 2:2 ack 2", 2, 2),
    "LAST-ACK": (">> F. 1:1 ack 1 win 64000\n<< . 1:1 ack 2\n!! close\n<< F. 1:1 ack 2", 2, 2),
    "TIME-WAIT": ("!! close\n<< F. 1:1 ack 1\n>> F. 1:1 ack 2 win 64000\n<< . 2:2 ack 2", 2, 2),
}
ORDERLY = ("CLOSING", "LAST-ACK", "TIME-WAIT")
STATES = pytest.mark.parametrize("state", SCRIPTS)


def reached(state: str) -> tuple[Playbook, int, int]:
    script, ours, theirs = SCRIPTS[state]
    book = established()
    if script:
        book.play(script)
    return book.play(f"== {state}"), ours, theirs


@STATES
def test_an_exact_reset_ends_it_and_after_both_have_said_all_it_breaks_nothing(state: str) -> None:
    book, _, theirs = reached(state)
    book.play(f">> R {theirs}:{theirs}\n== CLOSED")
    assert book.connection is not None
    assert book.connection.was_reset == (state not in ORDERLY)
    assert not book.stack.connections


@STATES
def test_a_reset_within_the_window_is_challenged(state: str) -> None:
    """RFC 5961 §3.2: whoever guesses a number within the window does not know the next."""
    book, ours, theirs = reached(state)
    book.play(f"+0.1\n>> R {theirs + 7}:{theirs + 7}\n<< . {ours}:{ours} ack {theirs}\n== {state}")


@STATES
def test_a_reset_outside_the_window_is_dropped(state: str) -> None:
    book, _, theirs = reached(state)
    book.play(f">> R {theirs - 1}:{theirs - 1}\n>> R 5000000:5000000\n== {state}")


@STATES
def test_a_syn_with_an_old_number_is_challenged(state: str) -> None:
    """RFC 5961 §4.2."""
    book, ours, theirs = reached(state)
    book.play(f"+0.1\n>> S 0:0 win 64000\n<< . {ours}:{ours} ack {theirs}\n== {state}")


@STATES
def test_a_syn_with_ack_is_challenged_anywhere(state: str) -> None:
    book, ours, theirs = reached(state)
    book.play(
        f"+0.1\n>> S. {theirs + 5}:{theirs + 5} ack 1 win 9\n<< . {ours}:{ours} ack {theirs}\n== {state}"
    )


@STATES
def test_a_segment_without_ack_is_dropped(state: str) -> None:
    book, _, theirs = reached(state)
    book.play(f">> P {theirs}:{theirs + 5} win 64000\n== {state}")


@STATES
def test_an_acknowledgement_of_what_was_never_sent_is_challenged(state: str) -> None:
    book, ours, theirs = reached(state)
    book.play(
        f"+0.1\n>> . {theirs}:{theirs} ack {ours + 1} win 64000\n<< . {ours}:{ours} ack {theirs}\n== {state}"
    )


@STATES
def test_text_from_before_the_window_is_answered_with_where_we_are(state: str) -> None:
    book, ours, theirs = reached(state)
    book.play(f">> P. -50:-40 ack 1 win 64000\n<< . {ours}:{ours} ack {theirs}\n== {state}")


@pytest.mark.parametrize("state", ["CLOSE-WAIT", "CLOSING", "LAST-ACK", "TIME-WAIT"])
def test_text_behind_the_guests_fin_is_not_taken(state: str) -> None:
    book, ours, theirs = reached(state)
    book.play(f">> P. 2:12 ack 1 win 64000\n<< . {ours}:{ours} ack {theirs}\n== {state}")
    assert book.connection is not None
    assert not len(book.connection.rcv_buf)


@pytest.mark.parametrize("state", ["ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2"])
def test_text_is_taken_until_the_guests_fin(state: str) -> None:
    book, ours, _ = reached(state)
    book.play(f">> PU. 1:11 ack 1 win 64000\n!! read 10\n+0.05\n<< . {ours}:{ours} ack 11")


@STATES
def test_an_abort_is_a_reset_but_in_time_wait(state: str) -> None:
    book, ours, theirs = reached(state)
    reset = "" if state == "TIME-WAIT" else f"<< R. {ours}:{ours} ack {theirs}\n"
    book.play(f"!! abort\n{reset}== CLOSED")
    assert not book.stack.connections


# Opening


def test_in_syn_sent_a_reset_counts_only_with_our_number() -> None:
    Playbook().play("!! connect\n<< S 0:0\n>> R 0:0\n== SYN-SENT\n>> R. 0:0 ack 9\n== SYN-SENT")


def test_in_syn_sent_an_acknowledgement_of_something_else_is_reset() -> None:
    """An old connection of the guest's: RFC 9293 §3.5.1, figure 9."""
    Playbook().play(
        """
        !! connect
        << S 0:0
        >> . 50:50 ack 77 win 9
        << R 77:77
        == SYN-SENT
        +1.1
        << S 0:0
        >> S. 0:0 ack 1 win 64000
        << . 1:1 ack 1
        == ESTABLISHED
        """
    )


def test_in_syn_sent_an_acknowledgement_alone_opens_nothing() -> None:
    Playbook().play("!! connect\n<< S 0:0\n>> . 1:1 ack 1 win 64000\n== SYN-SENT")


def test_a_connect_that_nobody_answers_is_given_up_without_a_word() -> None:
    book = Playbook().play("!! connect\n<< S 0:0")
    assert book.connection is not None
    while book.connection.state is State.SYN_SENT and book.now < 2000:
        book.now = max(book.now, book.stack.deadline)
        book.stack.expire(book.now)
        book.stack.flush(book.now)
    assert book.connection.was_reset
    assert 150 < book.now - 1000 < 400
    assert len(book.device.to_guest) == 7
    assert not book.stack.connections


def test_both_ends_open_at_once_and_both_answer() -> None:
    """RFC 9293 §3.5, figure 7: the guest's SYN-ACK is the acknowledgement that ends the handshake."""
    Playbook().play(
        """
        !! connect
        << S 0:0
        >> S 0:0 win 64000 <mss 1012,sackok,ts 5 0>
        << S. 0:0 ack 1 win 65535 <mss 1460,sackok,ts 0 5>
        == SYN-RECEIVED
        >> S. 0:0 ack 1 win 64000 <mss 1012,sackok,ts 6 0>
        << . 1:1 ack 1
        == ESTABLISHED
        """
    )


def test_a_syn_ack_with_a_wrong_number_ends_no_handshake() -> None:
    Playbook().play(
        "!! connect\n<< S 0:0\n>> S 0:0 win 64000\n<< S. 0:0 ack 1\n"
        ">> S. 0:0 ack 77 win 64000\n== SYN-RECEIVED"
    )
    Playbook().play(">> S 0:0 win 64000\n>> S. 0:0 ack 0 win 64000\n== SYN-RECEIVED")  # nothing was sent yet


def test_an_open_from_both_sides_is_not_confused_by_another_syn() -> None:
    Playbook().play(
        """
        !! connect
        << S 0:0
        >> S 0:0 win 64000
        << S. 0:0 ack 1
        >> S -50:-50 win 64000
        == SYN-RECEIVED
        >> . 1:1 ack 1 win 64000
        == ESTABLISHED
        """
    )


def test_a_reset_ends_an_open_from_both_sides() -> None:
    book = Playbook().play("!! connect\n<< S 0:0\n>> S 0:0 win 64000\n<< S. 0:0 ack 1\n>> R 1:1\n== CLOSED")
    assert book.connection is not None
    assert book.connection.was_reset


@pytest.mark.parametrize("answered", [False, True])
def test_a_guest_that_forgot_its_first_syn_gets_a_new_attempt(answered: bool) -> None:
    """RFC 9293 §3.10.7.4 lets a SYN-RECEIVED go back to LISTEN; the owner lets go of what the first had."""
    book = Playbook().play(">> S 0:0 win 64000 <mss 1000>")
    if answered:
        book.play("!! accept\n<< S. 0:0 ack 1")
    first = book.opened[0]
    book.guest_iss += 5000
    book.play(">> S 0:0 win 64000 <mss 1000>\n== SYN-RECEIVED")
    assert len(book.opened) == 2
    assert first.state is State.CLOSED
    assert first.was_reset
    assert list(book.stack.connections.values()) == [book.opened[1]]
    assert len(book.stack.half_open) == 1
    first.accept()  # its upstream connects too late
    book.stack.flush(book.now)
    book.play("!! accept\n<< S. 0:0 ack 1\n>> . 1:1 ack 1 win 64000\n== ESTABLISHED")


def test_the_owner_of_a_replaced_attempt_is_told_in_the_same_turn() -> None:
    book = Playbook().play(">> S 0:0 win 64000 <mss 1000>")
    book.guest_iss += 5000
    book._send("S 0:0 win 64000 <mss 1000>")
    book.stack.receive(book.now)
    assert list(book.stack.dirty) == book.opened


def test_a_syn_with_a_reset_replaces_nothing() -> None:
    Playbook().play(">> S 0:0 win 64000\n>> SR 5000:5000\n== SYN-RECEIVED\n>> SF 5000:5000\n== SYN-RECEIVED")


def test_an_attempt_of_ours_is_not_replaced_by_a_syn_of_the_guests() -> None:
    book = Playbook().play("!! connect\n<< S 0:0\n>> S 0:0 win 64000\n<< S. 0:0 ack 1\n== SYN-RECEIVED")
    book.play(">> S 900:900 win 64000\n== SYN-RECEIVED")
    assert not book.opened


@pytest.mark.parametrize(("version", "offered", "size"), [(4, 9000, 1460), (6, 9000, 1440), (4, 500, 500)])
def test_segments_are_no_larger_than_either_end_can_take(version: int, offered: int, size: int) -> None:
    Playbook(version, gso=False).play(
        f"""
        >> S 0:0 win 64000 <mss {offered}>
        !! accept
        << S. 0:0 ack 1
        >> . 1:1 ack 1 win 64000
        !! write 2000
        << . 1:{size + 1} ack 1
        """.rstrip()
        + "".join(
            f"\n<< {'P' if end == 2001 else ''}. {start}:{end} ack 1"
            for start, end in ((at, min(at + size, 2001)) for at in range(size + 1, 2001, size))
        )
    )


@pytest.mark.parametrize(("version", "size"), [(4, 536), (6, 1220)])
def test_a_guest_that_names_no_size_gets_the_default(version: int, size: int) -> None:
    """RFC 9293 §3.7.1."""
    book = Playbook(version)
    book.guest.send_segment(
        {4: bytes((192, 0, 2, 7)), 6: bytes.fromhex("20010db8" + "00" * 11 + "07")}[version],
        (40000, 80), 1, 0, 2, 64000,
    )  # fmt: skip
    book._turn()
    assert book.connection is not None
    assert book.connection.sender.mss == size


# Half-closed


def test_a_guest_that_has_closed_its_half_is_still_sent_everything() -> None:
    established().play(
        """
        >> F. 1:1 ack 1 win 64000
        << . 1:1 ack 2
        !! write 100000
        << . 1:64001 ack 2
        >> . 2:2 ack 64001 win 64000
        << P. 64001:100001 ack 2
        +0.21
        << . 64001:65001 ack 2          # and it is sent again if need be
        >> . 2:2 ack 100001 win 64000
        !! close
        << F. 100001:100001 ack 2
        >> . 2:2 ack 100002 win 64000
        """
    )


def test_a_guest_whose_peer_has_closed_may_fill_and_empty_the_window() -> None:
    established(ring_limit=4000).play(
        """
        !! close
        << F. 1:1 ack 1
        >> . 1:4001 ack 2 win 64000
        << . 2:2 ack 4001 win 0
        == FIN-WAIT-2
        !! read 4000
        << . 2:2 ack 4001 win 4000
        >> F. 4001:5001 ack 2 win 64000
        << . 2:2 ack 5002
        == TIME-WAIT
        !! read 1000
        """
    )


def test_our_fin_waits_behind_text_that_the_window_holds_back() -> None:
    established().play(
        """
        >> . 1:1 ack 1 win 1000
        !! write 3000
        << . 1:1001 ack 1
        !! close
        == FIN-WAIT-1
        >> F. 1:1 ack 1001 win 1000
        << . 1001:2001 ack 2
        == CLOSING
        >> . 2:2 ack 2001 win 1001
        << FP. 2001:3001 ack 2
        >> . 2:2 ack 3002 win 1001
        == TIME-WAIT
        """
    )


@pytest.mark.parametrize("state", ["CLOSE-WAIT", "CLOSING", "LAST-ACK"])
def test_a_repeated_fin_is_acknowledged_again_and_changes_nothing(state: str) -> None:
    """Our acknowledgement of it was lost."""
    book, ours, theirs = reached(state)
    book.play(f">> F. {theirs - 1}:{theirs - 1} ack 1 win 64000\n<< . {ours}:{ours} ack {theirs}\n== {state}")


def test_a_repeated_fin_begins_time_wait_anew() -> None:
    """RFC 9293 §3.10.7.4: our last acknowledgement was lost."""
    established().play(
        """
        !! close
        << F. 1:1 ack 1
        >> F. 1:1 ack 2 win 64000
        << . 2:2 ack 2
        +0.75
        >> F. 1:1 ack 2 win 64000
        << . 2:2 ack 2
        +0.75
        == TIME-WAIT
        +0.5
        == CLOSED
        """
    )


def test_other_segments_do_not_prolong_time_wait() -> None:
    established().play(
        """
        !! close
        << F. 1:1 ack 1
        >> F. 1:1 ack 2 win 64000
        << . 2:2 ack 2
        +0.75
        >> P. 1:2 ack 2 win 64000
        << . 2:2 ack 2
        +0.5
        == CLOSED
        """
    )


def test_urgent_text_beyond_the_window_changes_nothing() -> None:
    established(ring_limit=1000).play(
        """
        >> PU. 1:1001 ack 1 win 64000
        +0.05
        << . 1:1 ack 1001 win 0
        >> U. 1001:1001 ack 1 win 64000
        >> PU. 1001:1002 ack 1 win 64000
        << . 1:1 ack 1001 win 0
        """
    )
