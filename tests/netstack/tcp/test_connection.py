# SPDX-License-Identifier: GPL-3.0-or-later
"""How connections end, in order or not, and what comes after: packet traces, see playbook.py."""

from __future__ import annotations

from tests.netstack.playbook import Playbook, established
from torbox.netstack.tcp.state import State


def test_our_fin_rides_with_the_last_text() -> None:
    book = established()
    assert book.connection is not None
    book.connection.snd_buf.write(bytes(7 * i % 251 for i in range(100)))
    book.play(
        """
        !! close
        << FP. 1:101 ack 1
        == FIN-WAIT-1
        >> . 1:1 ack 102 win 64000
        == FIN-WAIT-2
        >> P. 1:11 ack 102 win 64000      # the guest's half is still open
        !! read 10
        >> F. 11:11 ack 102 win 64000
        << . 102:102 ack 12
        == TIME-WAIT
        +0.9
        +0.2
        == CLOSED
        """
    )
    assert not book.stack.connections
    assert not book.connection.was_reset


def test_the_guest_closes_first() -> None:
    book = established().play(
        """
        >> FP. 1:101 ack 1 win 64000
        << . 1:1 ack 102
        == CLOSE-WAIT
        !! read 100
        !! write 10
        << P. 1:11 ack 102
        !! close
        << F. 11:11 ack 102
        == LAST-ACK
        >> . 102:102 ack 12 win 64000
        """
    )
    assert book.connection is not None
    assert book.connection.state is State.CLOSED
    assert not book.connection.was_reset
    assert not book.stack.connections
    assert len(book.stack.timers) == 0 or book.stack.deadline > book.now


def test_both_close_at_once() -> None:
    established().play(
        """
        !! close
        << F. 1:1 ack 1
        >> F. 1:1 ack 1 win 64000
        << . 2:2 ack 2
        == CLOSING
        >> . 2:2 ack 2 win 64000
        == TIME-WAIT
        """
    )


def test_a_fin_that_acknowledges_ours_goes_straight_to_time_wait() -> None:
    established().play("!! close\n<< F. 1:1 ack 1\n>> F. 1:1 ack 2 win 64000\n<< . 2:2 ack 2\n== TIME-WAIT")


def test_a_lost_fin_is_sent_again() -> None:
    established().play(
        """
        !! close
        << F. 1:1 ack 1
        +0.21
        << F. 1:1 ack 1
        >> . 1:1 ack 2 win 64000
        == FIN-WAIT-2
        """
    )


def test_a_fin_waits_for_a_window() -> None:
    established().play(
        """
        >> . 1:1 ack 1 win 10
        !! write 10
        << P. 1:11 ack 1
        !! close
        >> . 1:1 ack 11 win 0
        +0.21
        << . 10:10 ack 1
        >> . 1:1 ack 11 win 5
        << F. 11:11 ack 1
        """
    )


def test_a_repeated_fin_in_time_wait_is_acknowledged_again() -> None:
    established().play(
        """
        !! close
        << F. 1:1 ack 1
        >> F. 1:1 ack 2 win 64000
        << . 2:2 ack 2
        >> F. 1:1 ack 2 win 64000
        << . 2:2 ack 2
        == TIME-WAIT
        """
    )


def test_a_close_before_the_handshake_is_over_is_kept_for_after_it() -> None:
    Playbook().play(
        """
        >> S 0:0 win 64000
        !! accept
        << S. 0:0 ack 1
        !! close
        >> . 1:1 ack 1 win 64000
        << F. 1:1 ack 1
        == FIN-WAIT-1
        """
    )


def test_an_abort_is_a_reset_and_forgets_everything() -> None:
    book = established().play(
        ">> P. 1:101 ack 1 win 64000\n!! write 500\n<< P. 1:501 ack 101\n!! abort\n<< R. 501:501 ack 101"
    )
    assert book.pool.lent == 0
    assert not book.stack.connections


def test_a_reset_instead_of_the_last_acknowledgement_breaks_nothing() -> None:
    book = established().play(
        """
        >> F. 1:1 ack 1 win 64000
        << . 1:1 ack 2
        !! close
        << F. 1:1 ack 2
        == LAST-ACK
        >> R 2:2
        == CLOSED
        """
    )
    assert book.connection is not None
    assert not book.connection.was_reset


def test_acknowledgements_do_not_go_back_with_what_is_sent_again() -> None:
    established(gso=False).play(
        """
        !! write 3000
        << . 1:1001 ack 1
        << . 1001:2001 ack 1
        << P. 2001:3001 ack 1
        +0.21
        << . 1:1001 ack 1
        >> . 1:2921 ack 1 win 64000
        << . 3001:3001 ack 2921
        """
    )


def test_a_new_syn_ends_time_wait() -> None:
    book = established().play(
        "!! close\n<< F. 1:1 ack 1\n>> F. 1:1 ack 2 win 64000\n<< . 2:2 ack 2\n== TIME-WAIT"
    )
    book.guest_iss += 1000
    book.play(">> S 0:0 win 64000 <mss 1000>\n== SYN-RECEIVED")
    assert len(book.opened) == 2
    assert len(book.stack.connections) == 1


def test_a_new_syn_after_a_reset_in_the_same_batch_opens_anew() -> None:
    book = established()
    book.play(">> R 1:1\n>> S 5000:5000 win 64000 <mss 1000>\n== SYN-RECEIVED")
    assert len(book.opened) == 2


def test_what_belongs_to_no_connection_is_reset() -> None:
    book = Playbook()
    book.play(">> . 1:1 ack 5 win 100\n<< R 5:5 win 0")
    book.our_iss = 0
    book.play(">> F 1:11 win 100\n<< R. 0:0 ack 12\n>> R. 1:1 ack 5")
    assert book.stack.counters.resets_sent == 2
