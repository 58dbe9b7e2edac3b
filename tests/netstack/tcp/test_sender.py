# SPDX-License-Identifier: GPL-3.0-or-later
"""What is sent to the guest, when, and how often: packet traces, see playbook.py."""

from __future__ import annotations

import pytest

from tests.netstack.addresses import REMOTES
from tests.netstack.playbook import GUEST_ISS, OUR_ISS, PORTS, Playbook, established, pattern
from torbox.netstack.tcp.sender import CWND_OPEN
from torbox.netstack.tcp.sequence import MASK
from torbox.netstack.tcp.state import State
from torbox.netstack.wire import tcp


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


def test_a_window_that_opens_ends_the_patience_that_a_closed_one_asked_for() -> None:
    """Probes are sent ever more rarely; that is no reason to wait as long for what is then lost."""
    established().play(
        """
        >> . 1:1 ack 1 win 0
        !! write 500
        +0.21
        << . 0:0 ack 1
        >> . 1:1 ack 1 win 0
        +0.41
        << . 0:0 ack 1
        >> . 1:1 ack 1 win 64000
        << P. 1:501 ack 1
        +0.19
        +0.02
        << P. 1:501 ack 1
        """
    )


def test_a_window_is_not_believed_of_a_segment_older_than_the_last() -> None:
    """RFC 9293 §3.10.7.4, SND.WL1: what overtook it on the way says how things are."""
    established().play(
        """
        >> . 1:101 ack 1 win 64000
        >> . 101:201 ack 1 win 64000
        >> . 51:251 ack 1 win 10
        << . 1:1 ack 251
        !! read 250
        !! write 1000
        << P. 1:1001 ack 251
        """
    )


def test_a_closed_window_that_is_confirmed_is_never_given_up() -> None:
    book = established().play(">> . 1:1 ack 1 win 0\n!! write 500")
    for _ in range(40):
        book.play("+60.1\n<< . 0:0 ack 1\n>> . 1:1 ack 1 win 0\n== ESTABLISHED")


def test_a_round_trip_is_one_segments_from_its_sending_to_its_whole_acknowledgement() -> None:
    book = established(gso=False)
    assert book.connection is not None
    rtt = book.connection.sender.rtt
    book.play(
        """
        !! write 2000
        << . 1:1001 ack 1
        << P. 1001:2001 ack 1
        +0.05
        >> . 1:1 ack 501 win 64000
        """
    )
    assert rtt.srtt_s == 0  # the handshake took no time here
    book.play("+0.1\n>> . 1:1 ack 1001 win 64000")
    assert rtt.srtt_s == pytest.approx(0.15)
    book.play("+0.15\n>> . 1:1 ack 2001 win 64000")  # one is measured at a time, and this was not
    assert rtt.srtt_s == pytest.approx(0.15)


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


def test_a_guest_that_answers_but_never_takes_the_text_is_given_up_too() -> None:
    """RFC 9293 §3.8.3 counts how often the same segment was sent, not how long nothing was heard."""
    book = established().play("!! write 500\n<< P. 1:501 ack 1")
    assert book.connection is not None
    while book.connection.state is not State.CLOSED and book.now < 3000:
        book.guest.send_segment(REMOTES[4], PORTS, GUEST_ISS + 1, (OUR_ISS + 1) & MASK, tcp.ACK, 64000)
        book.stack.receive(book.now)
        book.now = max(book.now, book.stack.deadline)
        book.stack.expire(book.now)
        book.stack.flush(book.now)
    assert book.connection.was_reset
    assert book.now - 1000 < 1000


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


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed by the guest"])
def test_acknowledgements_while_nothing_is_in_flight_are_no_duplicates(closed: bool) -> None:
    """RFC 5681 §2 (a): a guest that keeps asking whether we are there does not slow us down."""
    book = established(gso=False)
    if closed:  # where no segment is predicted
        book.play(">> F. 1:1 ack 1 win 64000\n<< . 1:1 ack 2")
    nxt = 2 if closed else 1
    book.play(f"!! write 500\n<< P. 1:501 ack {nxt}\n" + f">> . {nxt}:{nxt} ack 501 win 64000\n" * 5)
    assert book.connection is not None
    assert book.connection.sender.duplicates == 0
    assert book.connection.sender.cwnd == CWND_OPEN


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


def test_beyond_half_of_what_was_lost_it_grows_by_a_segment_a_round_trip() -> None:
    """RFC 5681 §3.1: slow start up to ssthresh, then congestion avoidance."""
    book = established(gso=False).play(
        """
        !! write 8000
        << . 1:1001 ack 1
        << . 1001:2001 ack 1
        << . 2001:3001 ack 1
        << . 3001:4001 ack 1
        << . 4001:5001 ack 1
        << . 5001:6001 ack 1
        << . 6001:7001 ack 1
        << P. 7001:8001 ack 1
        +0.21
        << . 1:1001 ack 1
        >> . 1:1 ack 1001 win 64000
        << . 1001:2001 ack 1
        << . 2001:3001 ack 1
        >> . 1:1 ack 3001 win 64000
        << . 3001:4001 ack 1
        << . 4001:5001 ack 1
        << . 5001:6001 ack 1
        << . 6001:7001 ack 1
        """
    )
    assert book.connection is not None
    sender = book.connection.sender
    assert (sender.ssthresh, sender.cwnd) == (4000, 4000)
    book.play(">> . 1:1 ack 5001 win 64000\n<< P. 7001:8001 ack 1")
    assert sender.cwnd == 4500  # 2,000 bytes are half of a round trip's


def test_a_fast_recovery_ends_with_half_of_what_was_in_flight() -> None:
    """RFC 6582 §3.2: what the duplicates had added to the congestion window is taken back."""
    book = established(gso=False).play(
        """
        !! write 4000
        << . 1:1001 ack 1
        << . 1001:2001 ack 1
        << . 2001:3001 ack 1
        << P. 3001:4001 ack 1
        >> . 1:1 ack 1 win 64000
        >> . 1:1 ack 1 win 64000
        >> . 1:1 ack 1 win 64000
        << P. 1:1001 ack 1
        """
    )
    assert book.connection is not None
    sender = book.connection.sender
    assert (sender.ssthresh, sender.cwnd) == (2000, 5000)
    book.play(">> . 1:1 ack 1 win 64000")  # another segment has left the link
    assert sender.cwnd == 6000
    book.play(">> . 1:1 ack 4001 win 64000")
    assert (sender.ssthresh, sender.cwnd) == (2000, 2000)


def test_what_is_sent_again_may_go_further_than_what_was_sent_before() -> None:
    book = established().play("!! write 500\n<< P. 1:501 ack 1")
    assert book.connection is not None
    book.connection.snd_buf.write(pattern(500, 500))  # in the turn of the time-out
    book.play("+0.21\n<< P. 1:1001 ack 1\n>> . 1:1 ack 1001 win 64000\n+10")
    assert book.connection.sender.una == book.connection.sender.max


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
