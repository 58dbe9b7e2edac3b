# SPDX-License-Identifier: GPL-3.0-or-later
"""What is sent to the guest, when, and how often: packet traces, see playbook.py."""

from __future__ import annotations

from tests.netstack.playbook import Playbook, established
from torbox.netstack.tcp.state import State


def test_text_is_cut_at_the_guests_mss_without_offload() -> None:
    established(gso=False).play(
        "!! write 2500\n<< . 1:1001 ack 1\n<< . 1001:2001 ack 1\n<< P. 2001:2501 ack 1"
    )


def test_text_goes_out_as_one_super_packet_with_offload() -> None:
    book = established().play("!! write 50000\n<< P. 1:50001 ack 1")
    assert book.stack.counters.packets_to_guest == 2


def test_a_super_packet_is_whole_segments_when_more_follows() -> None:
    established().play(
        """
        !! write 1
        << P. 1:2 ack 1
        >> . 1:1 ack 2 win 65535
        """
    )
    Playbook().play(
        """
        >> S 0:0 win 65535 <mss 1000,wscale 4>
        !! accept
        << S. 0:0 ack 1
        >> . 1:1 ack 1 win 65535
        !! write 100000
        << . 1:65001 ack 1
        << P. 65001:100001 ack 1
        """
    )


def test_any_open_window_is_sent_into() -> None:
    established(gso=False).play(
        """
        >> . 1:1 ack 1 win 1
        !! write 2000
        << . 1:2 ack 1
        >> . 1:1 ack 2 win 300
        << . 2:302 ack 1
        >> . 1:1 ack 302 win 5000
        << . 302:1302 ack 1
        << P. 1302:2001 ack 1
        """
    )


def test_a_closed_window_is_probed_until_it_opens() -> None:
    established().play(
        """
        >> . 1:1 ack 1 win 0
        !! write 500
        +0.19
        +0.02
        << . 0:0 ack 1
        >> . 1:1 ack 1 win 0
        +0.41
        << . 0:0 ack 1
        +0.81
        << . 0:0 ack 1
        >> . 1:1 ack 1 win 300
        << . 1:301 ack 1
        >> . 1:1 ack 301 win 64000
        << P. 301:501 ack 1
        """
    )


def test_a_closed_window_that_is_confirmed_is_never_given_up() -> None:
    book = established().play(">> . 1:1 ack 1 win 0\n!! write 500")
    for _ in range(40):
        book.play("+60.1\n<< . 0:0 ack 1\n>> . 1:1 ack 1 win 0\n== ESTABLISHED")


def test_a_lost_segment_is_sent_again_after_the_time_out_and_later_and_later() -> None:
    established().play(
        """
        !! write 500
        << P. 1:501 ack 1
        +0.19
        +0.02
        << P. 1:501 ack 1
        +0.38
        +0.04
        << P. 1:501 ack 1
        >> . 1:1 ack 501 win 64000
        +60
        """
    )


def test_a_guest_that_never_answers_is_given_up() -> None:
    book = established().play("!! write 500\n<< P. 1:501 ack 1")
    assert book.connection is not None
    while book.connection.state is not State.CLOSED and book.now < 3000:
        book.now = max(book.now, book.stack.deadline)
        book.stack.expire(book.now)
        book.stack.flush(book.now)
    assert book.connection.was_reset
    assert book.now - 1000 > 100  # RFC 9293 §3.8.3
    assert len(book.device.to_guest) == 16  # fifteen times the text, and a reset
    assert book.pool.lent == 0


def test_three_duplicates_send_the_lost_segment_again_at_once() -> None:
    established(gso=False).play(
        """
        !! write 5000
        << . 1:1001 ack 1
        << . 1001:2001 ack 1
        << . 2001:3001 ack 1
        << . 3001:4001 ack 1
        << P. 4001:5001 ack 1
        >> . 1:1 ack 1001 win 64000
        >> . 1:1 ack 1001 win 64000
        >> . 1:1 ack 1001 win 64000
        >> . 1:1 ack 1001 win 64000
        << P. 1001:2001 ack 1
        >> . 1:1 ack 3001 win 64000       # partial: another hole
        << P. 3001:4001 ack 1
        >> . 1:1 ack 5001 win 64000
        """
    )


def test_after_a_time_out_everything_is_sent_again_slowly_at_first() -> None:
    established(gso=False).play(
        """
        !! write 4000
        << . 1:1001 ack 1
        << . 1001:2001 ack 1
        << . 2001:3001 ack 1
        << P. 3001:4001 ack 1
        +0.21
        << . 1:1001 ack 1
        >> . 1:1 ack 1001 win 64000
        << . 1001:2001 ack 1
        << . 2001:3001 ack 1
        >> . 1:1 ack 4001 win 64000       # the rest had arrived
        """
    )


def test_a_window_that_closes_on_what_is_in_flight_is_probed_and_then_filled() -> None:
    """A kernel short of memory drops what its window had allowed; it says so by a window of zero."""
    established().play(
        """
        !! write 3000
        << P. 1:3001 ack 1
        >> . 1:1 ack 1 win 0
        +0.21
        +0.41
        << . 0:0 ack 1
        >> . 1:1 ack 1 win 5000
        << . 1:1001 ack 1
        >> . 1:1 ack 1001 win 5000
        << P. 1001:3001 ack 1
        """
    )
