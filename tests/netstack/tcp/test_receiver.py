# SPDX-License-Identifier: GPL-3.0-or-later
"""What is taken from the guest, what is not, and what is said about it: packet traces, see playbook.py."""

from __future__ import annotations

from tests.netstack.playbook import GUEST_ISS, established, pattern
from torbox.netstack.ring import RING_INITIAL, Ring, RingPool
from torbox.netstack.tcp.options import MAX_SACK_BLOCKS
from torbox.netstack.tcp.outoforder import MAX_PIECES, PIECE_COST
from torbox.netstack.tcp.receiver import Receiver


def test_small_text_is_acknowledged_after_a_delay() -> None:
    established().play(">> P. 1:101 ack 1 win 64000\n+0.03\n+0.02\n<< . 1:1 ack 101\n!! read 100")


def test_two_full_segments_are_acknowledged_at_once() -> None:
    established().play(
        ">> . 1:1461 ack 1 win 64000\n>> . 1461:2921 ack 1 win 64000\n<< . 1:1 ack 2921\n!! read 2920"
    )


def test_a_super_packet_is_acknowledged_at_once() -> None:
    established(mtu=65520).play(">> . 1:30001 ack 1 win 64000\n<< . 1:1 ack 30001\n!! read 30000")


def test_an_answer_carries_the_acknowledgement() -> None:
    established().play(">> P. 1:101 ack 1 win 64000\n!! read 100\n!! write 50\n<< P. 1:51 ack 101\n+0.1")


def test_text_out_of_order_waits_for_the_gap_to_fill() -> None:
    established().play(
        """
        >> . 101:201 ack 1 win 64000
        << . 1:1 ack 1
        >> . 301:401 ack 1 win 64000
        << . 1:1 ack 1
        >> . 151:351 ack 1 win 64000    # overlaps both
        << . 1:1 ack 1
        >> . 1:121 ack 1 win 64000
        << . 1:1 ack 401
        !! read 400
        """
    )


def test_text_that_was_sent_twice_is_taken_once() -> None:
    established().play(
        """
        >> . 1:101 ack 1 win 64000
        >> . 1:101 ack 1 win 64000
        << . 1:1 ack 101
        >> . 51:151 ack 1 win 64000
        << . 1:1 ack 151
        !! read 150
        """
    )


def test_a_fin_out_of_order_is_remembered() -> None:
    established().play(
        """
        >> F. 101:201 ack 1 win 64000
        << . 1:1 ack 1
        == ESTABLISHED
        >> . 1:101 ack 1 win 64000
        << . 1:1 ack 202
        == CLOSE-WAIT
        !! read 200
        """
    )


def test_urgent_text_is_text() -> None:
    established().play(">> PU. 1:11 ack 1 win 64000\n!! read 10\n+0.1\n<< . 1:1 ack 11")


def test_a_full_ring_closes_the_window_and_reading_opens_it() -> None:
    established(ring_limit=4000).play(
        """
        >> . 1:3001 ack 1 win 64000
        << . 1:1 ack 3001 win 1000
        >> . 3001:4001 ack 1 win 64000
        +0.05
        << . 1:1 ack 4001 win 0
        >> . 4001:4002 ack 1 win 64000  # a probe of a byte is not taken
        << . 1:1 ack 4001 win 0
        !! read 100                     # too little to tell
        >> . 4001:4002 ack 1 win 64000
        +0.05
        << . 1:1 ack 4002 win 0         # there is room again, but a silly window is not offered
        !! read 1300
        !! read 600
        << . 1:1 ack 4002 win 1999
        """
    )


def test_text_beyond_the_window_is_cut_off() -> None:
    established(ring_limit=4000).play(
        """
        >> . 1:5001 ack 1 win 64000
        << . 1:1 ack 4001 win 0
        !! read 4000
        << . 1:1 ack 4001 win 4000
        """
    )


def test_out_of_order_pieces_are_bounded() -> None:
    book = established()
    for i in range(MAX_PIECES + 10):
        seq = 3 + 2 * i
        book.guest.send_segment(
            bytes((192, 0, 2, 7)),
            (40000, 80),
            (GUEST_ISS + seq) & 0xFFFFFFFF,
            book.our_iss + 1,
            0x10,
            64000,
            b"",
            b"x",
        )
    book._turn()
    assert book.connection is not None
    receiver = book.connection.receiver
    assert receiver.out_of_order is not None
    assert len(receiver.out_of_order) == MAX_PIECES
    assert receiver.pieces_refused == 10
    assert book.pool.lent == MAX_PIECES * (1 + PIECE_COST)
    book.connection.abort()
    book.stack.flush(book.now)
    assert book.pool.lent == 0


def test_a_segment_outside_the_window_is_answered_with_where_we_are() -> None:
    established(ring_limit=4000).play(
        ">> . 9001:9101 ack 1 win 64000\n<< . 1:1 ack 1\n>> . -200:-100 ack 1 win 64000\n<< . 1:1 ack 1"
    )


def test_only_an_exact_reset_is_believed() -> None:
    established().play(
        """
        >> R 500:500
        << . 1:1 ack 1
        >> R -5:-5
        == ESTABLISHED
        >> R 1:1
        == CLOSED
        """
    )


def test_a_syn_in_a_connection_is_challenged() -> None:
    established().play(
        """
        >> S 0:0 win 64000
        << . 1:1 ack 1
        +0.1
        >> S 500:500 win 64000
        << . 1:1 ack 1
        == ESTABLISHED
        """
    )


def test_challenges_are_rationed() -> None:
    established().play(
        """
        >> R 500:500
        << . 1:1 ack 1
        >> R 501:501
        >> R 502:502
        +0.05
        >> R 503:503
        << . 1:1 ack 1
        """
    )


def test_acknowledgements_from_outside_the_window_are_answered_by_ration_too() -> None:
    """Else two ends that disagree about where they are would answer each other for ever."""
    established().play(
        """
        >> . -500:-500 ack 1 win 64000
        << . 1:1 ack 1
        >> . -500:-500 ack 1 win 64000
        >> . 3000000:3000000 ack 1 win 64000
        +0.04
        >> . -500:-500 ack 1 win 64000
        +0.02
        >> . -500:-500 ack 1 win 64000
        << . 1:1 ack 1
        """
    )


def test_an_acknowledgement_of_what_was_never_sent_is_challenged() -> None:
    established().play(
        """
        >> P. 1:11 ack 5000 win 64000
        << . 1:1 ack 1
        +0.1
        >> P. 1:11 ack -70000 win 9
        << . 1:1 ack 1
        >> P. 1:11 ack -10 win 9        # old, but believable
        !! read 10
        +0.05
        << . 1:1 ack 11
        """
    )


def test_keepalives_of_the_guest_are_answered() -> None:
    established().play(
        ">> . 0:0 ack 1 win 64000\n<< . 1:1 ack 1\n+1\n>> . 0:1 ack 1 win 64000\n<< . 1:1 ack 1"
    )


def test_a_newcomer_has_a_window_even_when_memory_is_short_and_segments_are_large() -> None:
    pool = RingPool(limit=1 << 20)
    pool.charge(pool.limit // 2 + 1)  # others hold so much that rings grow no more
    it = Receiver(Ring(1 << 20, pool=pool), mss=65_480)
    it.synchronise(0)
    assert it.window_field() == RING_INITIAL
    it.take(1, memoryview(bytes(RING_INITIAL)), False, 0.0)
    assert it.window_field() == 0
    it.buffer.consume(RING_INITIAL // 4)
    assert not it.wants_update()
    assert it.window_field() == 0  # not worth telling yet
    it.buffer.consume(RING_INITIAL // 4)
    assert it.wants_update()
    assert it.window_field() == RING_INITIAL // 2


def test_no_room_at_all_is_no_reason_to_speak() -> None:
    pool = RingPool(limit=1 << 20)
    pool.charge(pool.limit)
    it = Receiver(Ring(1 << 20, pool=pool), mss=65_480)
    it.synchronise(0)
    assert it.window_field() == 0
    assert not it.wants_update()


def test_a_scaled_window_ends_at_most_a_step_early_and_what_was_told_is_still_taken() -> None:
    """RFC 7323 §2.4: the header counts in steps, and text rarely does."""
    step = 1 << 5
    receiver = Receiver(Ring(1 << 20, pool=RingPool()), 1460)
    receiver.scale = 5
    receiver.synchronise(0)
    told = []
    for size in (0, 1, 1, 50, 1000, 7, 3000, 1, 1):
        receiver.take(receiver.nxt, memoryview(bytes(size)), False, 1.0)
        told.append(receiver.nxt + receiver.window_field() * step)
        assert max(told) - told[-1] < step
    assert min(told) < max(told)
    receiver.take(receiver.nxt, memoryview(bytes(max(told) - receiver.nxt)), False, 1.0)
    assert receiver.nxt == max(told)


# What is reported of text out of order


def test_what_is_remembered_of_early_text_is_bounded() -> None:
    book = established(offer="sackok")
    book.play(
        "".join(f">> . {at}:{at + 10} ack 1 win 64000\n" for at in range(11, 2011, 20)) + "<< . 1:1 ack 1"
    )
    assert book.connection is not None
    assert len(book.connection.receiver.blocks) == MAX_SACK_BLOCKS


def test_early_text_that_found_no_memory_in_the_end_is_reported_no_more() -> None:
    pool = RingPool(limit=1 << 20)
    it = Receiver(Ring(1 << 16, pool=pool), mss=1460)
    it.synchronise(0)
    it.take(1, memoryview(bytes(1000)), False, 0.0)
    it.take(3001, memoryview(bytes(3000)), False, 0.0)
    it.take(8001, memoryview(bytes(100)), False, 0.0)
    assert it.sack(4) == [(8001, 8101), (3001, 6001)]
    pool.charge(pool.limit)
    it.take(1001, memoryview(bytes(2000)), False, 0.0)
    assert 3001 < it.nxt < 6001
    assert not it.sack(4)


def test_what_came_early_is_reported_the_newest_first() -> None:
    established(offer="sackok").play(
        """
        >> . 101:201 ack 1 win 64000
        << . 1:1 ack 1 win 65535 <sack 101-201>
        >> . 301:401 ack 1 win 64000
        << . 1:1 ack 1 win 65535 <sack 301-401 101-201>
        >> . 201:251 ack 1 win 64000
        << . 1:1 ack 1 win 65535 <sack 101-251 301-401>
        >> . 501:601 ack 1 win 64000
        >> . 701:801 ack 1 win 64000
        >> . 901:1001 ack 1 win 64000
        << . 1:1 ack 1 win 65535 <sack 901-1001 701-801 501-601 101-251>
        >> . 251:501 ack 1 win 64000    # touches both
        << . 1:1 ack 1 win 65535 <sack 101-601 901-1001 701-801>
        >> . 1:101 ack 1 win 64000
        << . 1:1 ack 601 win 65535 <sack 901-1001 701-801>
        >> . 601:901 ack 1 win 64000
        << . 1:1 ack 1001 win 65535
        !! read 1000
        """
    )


def test_what_came_twice_is_reported_once() -> None:
    """RFC 2883: so the guest knows that it need not have been sent again."""
    established(offer="sackok").play(
        """
        >> . 1:101 ack 1 win 64000
        +0.05
        << . 1:1 ack 101
        >> . 1:101 ack 1 win 64000
        << . 1:1 ack 101 win 65535 <sack 1-101>
        >> . 201:301 ack 1 win 64000
        << . 1:1 ack 101 win 65535 <sack 201-301>
        >> . 201:301 ack 1 win 64000
        << . 1:1 ack 101 win 65535 <sack 201-301 201-301>
        >> . 51:151 ack 1 win 64000
        << . 1:1 ack 151 win 65535 <sack 51-101 201-301>
        """
    )


def test_an_answer_with_text_does_not_swallow_the_report() -> None:
    book = established(offer="sackok")
    assert book.connection is not None
    book.connection.snd_buf.write(pattern(0, 10))
    book.play(
        """
        >> . 101:201 ack 1 win 64000
        << . 1:1 ack 1 win 65535 <sack 101-201>
        << P. 1:11 ack 1 win 65535
        """
    )


def test_a_guest_that_cannot_hear_reports_is_told_three_times() -> None:
    """A burst is answered once, but RFC 5681 §3.2 needs three answers for a fast retransmit."""
    established().play(
        """
        >> . 101:201 ack 1 win 64000
        >> . 201:301 ack 1 win 64000
        << . 1:1 ack 1
        << . 1:1 ack 1
        >> . 301:401 ack 1 win 64000
        >> . 401:501 ack 1 win 64000
        >> . 501:601 ack 1 win 64000
        >> . 601:701 ack 1 win 64000
        << . 1:1 ack 1
        << . 1:1 ack 1
        << . 1:1 ack 1
        """
    )
