# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a silent guest is asked if it is still there: packet traces, see playbook.py."""

from __future__ import annotations

from tests.netstack.playbook import Playbook, established


def test_nobody_is_asked_unless_the_owner_wants_it() -> None:
    established().play("+100000")


def test_a_silent_guest_is_asked_and_given_up_when_it_never_answers() -> None:
    book = established().play(
        """
        !! keep-alive 100
        +99
        +2
        << . 0:0 ack 1
        +10.1
        << . 0:0 ack 1
        +10.1
        << . 0:0 ack 1
        == ESTABLISHED
        +10.1
        << R. 1:1 ack 1
        == CLOSED
        """
    )
    assert book.connection is not None
    assert book.connection.was_reset
    assert not book.stack.connections


def test_what_the_guest_says_in_the_turn_of_the_wish_does_not_undo_it() -> None:
    book = established()
    assert book.connection is not None
    book.connection.keep_alive(100.0, 10.0, 3)
    book.play(
        """
        >> P. 1:11 ack 1 win 64000  # it arrives before the connection is next asked what it has to say
        +0.04
        << . 1:1 ack 11
        +99
        +2
        << . 0:0 ack 11
        """
    )


def test_an_answer_begins_the_silence_anew() -> None:
    established().play(
        """
        !! keep-alive 100
        +100.1
        << . 0:0 ack 1
        +10.1
        << . 0:0 ack 1
        >> . 1:1 ack 1 win 64000
        +99
        +1.1
        << . 0:0 ack 1
        +10.1
        << . 0:0 ack 1
        +10.1
        << . 0:0 ack 1
        == ESTABLISHED
        """
    )


def test_a_guest_that_talks_is_not_asked() -> None:
    book = established().play("!! keep-alive 100")
    for _ in range(5):
        book.play("+90\n>> . 0:0 ack 1 win 64000\n<< . 1:1 ack 1")


def test_text_under_way_has_a_timer_of_its_own() -> None:
    established().play(
        """
        !! keep-alive 1
        !! write 10
        << P. 1:11 ack 1
        +0.21
        << P. 1:11 ack 1
        +0.41
        << P. 1:11 ack 1
        +0.7
        +0.2
        << P. 1:11 ack 1
        """
    )


def test_a_half_closed_connection_is_asked_too() -> None:
    established().play(
        """
        !! keep-alive 100
        !! close
        << F. 1:1 ack 1
        >> . 1:1 ack 2 win 64000
        == FIN-WAIT-2
        +100.1
        << . 1:1 ack 1
        >> . 1:1 ack 2 win 64000
        +99
        """
    )
    established().play(
        """
        !! keep-alive 100
        >> F. 1:1 ack 1 win 64000
        << . 1:1 ack 2
        +100.1
        << . 0:0 ack 2
        """
    )


def test_a_guest_that_forgot_the_connection_ends_it() -> None:
    established().play("!! keep-alive 100\n+100.1\n<< . 0:0 ack 1\n>> R 1:1\n== CLOSED")


def test_a_handshake_is_not_asked() -> None:
    Playbook().play(
        """
        >> S 0:0 win 64000
        !! keep-alive 0
        +0.5
        !! accept
        << S. 0:0 ack 1
        +0.5
        """
    )
