# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guest reports to hold, and what is sent again because of it: RFC 2018 and RFC 6675."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.netstack.playbook import Playbook, established, pattern
from torbox.netstack.ring import Ring, RingPool
from torbox.netstack.tcp.options import MAX_SACK_BLOCKS
from torbox.netstack.tcp.receiver import Receiver
from torbox.netstack.tcp.scoreboard import MAX_BLOCKS, Scoreboard
from torbox.netstack.tcp.sequence import MASK
from torbox.netstack.tcp.state import State

SIZE = 400  # bytes in flight in the model
BASES = st.sampled_from([0, MASK - 100, 0x7FFFFF00])


@given(
    base=BASES,
    steps=st.lists(st.tuples(st.integers(-20, SIZE + 20), st.integers(-5, 60), st.booleans()), max_size=40),
)
def test_it_agrees_with_a_set_of_bytes(base: int, steps: list[tuple[int, int, bool]]) -> None:
    board = Scoreboard(base)
    held: set[int] = set()
    una = 0
    snd_max = (base + SIZE) & MASK
    for start, size, cumulative in steps:
        if cumulative:
            una = max(una, min(start, SIZE))
            board.acknowledge((base + una) & MASK)
            held = {byte for byte in held if byte >= una}
        else:
            block = ((base + start) & MASK, (base + start + size) & MASK)
            news = board.report((base + una) & MASK, snd_max, (block,))
            believed = una <= start < start + size <= SIZE
            bytes_in = set(range(start, start + size)) if believed else set()
            assert news == bool(bytes_in - held)
            held |= bytes_in
        assert board.total == len(held)
        blocks = board.blocks()
        assert blocks == sorted(blocks, key=lambda block: (block[0] - base) & MASK)
        for byte in range(0, SIZE, 37):
            seq = (base + byte) & MASK
            assert board.holds(seq) == (byte in held)
            if byte >= una:
                assert board.below(seq) == len([other for other in held if other < byte])
                free = [other for other in range(byte, SIZE) if other not in held]
                where, room = board.hole(seq, snd_max)
                if free:
                    first = free[0]
                    last = next((other for other in range(first, SIZE) if other in held), SIZE)
                    assert (where, room) == ((base + first) & MASK, last - first)
                else:
                    assert room == 0


def test_blocks_that_touch_become_one() -> None:
    board = Scoreboard(0)
    assert board.report(0, 1000, ((100, 200), (300, 400), (200, 300)))
    assert board.blocks() == [(100, 400)]
    assert not board.report(0, 1000, ((150, 350),))


def test_no_more_blocks_than_the_bound_and_those_that_join_still_count() -> None:
    board = Scoreboard(0)
    snd_max = 10 * MAX_BLOCKS
    for number in range(MAX_BLOCKS + 10):
        board.report(0, snd_max, ((4 * number + 2, 4 * number + 4),))
    assert len(board) == MAX_BLOCKS
    assert board.refused == 10
    assert board.report(0, snd_max, ((4, 6),))
    assert len(board) == MAX_BLOCKS - 1


def test_what_is_lost_has_three_blocks_behind_it_or_more_than_two_segments() -> None:
    board = Scoreboard(0)
    board.report(0, 10_000, ((1000, 2000), (3000, 4000)))
    assert board.lost_edge(0, 1000) == 0
    board.report(0, 10_000, ((5000, 5001),))
    assert board.lost_edge(0, 1000) == 1000
    board.report(0, 10_000, ((8000, 10_000),))
    assert board.lost_edge(0, 1000) == 5000
    board.report(0, 10_000, ((7999, 8000),))
    assert board.lost_edge(0, 1000) == 7999


def test_numbers_may_go_round_while_the_board_is_never_empty() -> None:
    board = Scoreboard(0)
    una = 0
    for _ in range(40):
        una += 1 << 27
        board.report(
            una & MASK, (una + (1 << 28)) & MASK, (((una + 5) & MASK, (una + (1 << 27) + 9) & MASK),)
        )
        board.acknowledge(una & MASK)
        assert board.blocks()[-1][1] == (una + (1 << 27) + 9) & MASK


# In a connection


def test_the_option_is_answered_only_if_offered() -> None:
    Playbook().play(
        ">> S 0:0 win 64000 <mss 1000,sackok>\n!! accept\n<< S. 0:0 ack 1 win 65535 <mss 1460,sackok>"
    )
    Playbook().play(">> S 0:0 win 64000 <mss 1000>\n!! accept\n<< S. 0:0 ack 1 win 65535 <mss 1460>")


def test_only_the_holes_are_sent_again() -> None:
    established(gso=False, offer="sackok").play(
        """
        !! write 7000
        << . 1:1001 ack 1
        << . 1001:2001 ack 1
        << . 2001:3001 ack 1
        << . 3001:4001 ack 1
        << . 4001:5001 ack 1
        << . 5001:6001 ack 1
        << P. 6001:7001 ack 1
        >> . 1:1 ack 1 win 64000 <sack 1001-2001>
        >> . 1:1 ack 1 win 64000 <sack 3001-4001 1001-2001>
        >> . 1:1 ack 1 win 64000 <sack 3001-6001 1001-2001>    # more than two segments lie behind 2001
        << P. 1:1001 ack 1
        << P. 2001:3001 ack 1
        >> . 1:1 ack 2001 win 64000 <sack 3001-6001>
        << P. 6001:7001 ack 1                                  # the last, rule 4 of NextSeg()
        >> . 1:1 ack 7001 win 64000
        +10
        """
    )


def test_a_super_packet_that_was_lost_is_known_by_the_next_that_arrives() -> None:
    established(offer="sackok").play(
        """
        >> . 1:1 ack 1 win 64000
        !! write 30000
        << P. 1:30001 ack 1
        !! write 20000
        << P. 30001:50001 ack 1
        >> . 1:1 ack 1 win 64000 <sack 30001-50001>
        << P. 1:25001 ack 1             # half of what was in flight
        >> . 1:1 ack 25001 win 64000 <sack 30001-50001>
        << P. 25001:30001 ack 1
        >> . 1:1 ack 50001 win 64000
        +10
        """
    )


def test_a_time_out_steps_over_what_was_reported() -> None:
    established(gso=False, offer="sackok").play(
        """
        !! write 4000
        << . 1:1001 ack 1
        << . 1001:2001 ack 1
        << . 2001:3001 ack 1
        << P. 3001:4001 ack 1
        >> . 1:1 ack 1 win 64000 <sack 2001-3001>
        +0.21
        << . 1:1001 ack 1
        >> . 1:1 ack 1001 win 64000 <sack 2001-3001>
        << . 1001:2001 ack 1
        << P. 3001:4001 ack 1
        >> . 1:1 ack 4001 win 64000
        +10
        """
    )


def test_a_guest_that_takes_back_what_it_reported_is_sent_everything() -> None:
    established(gso=False, offer="sackok").play(
        """
        !! write 3000
        << . 1:1001 ack 1
        << . 1001:2001 ack 1
        << P. 2001:3001 ack 1
        >> . 1:1 ack 1 win 64000 <sack 1001-2001>
        >> . 1:1 ack 1001 win 64000               # its report is at SND.UNA now, and not acknowledged
        +0.21
        << . 1001:2001 ack 1
        >> . 1:1 ack 2001 win 64000
        << P. 2001:3001 ack 1
        """
    )


def test_what_was_sent_again_in_vain_is_sent_once_more_before_the_time_out() -> None:
    established(offer="sackok").play(
        """
        !! write 1
        << P. 1:2 ack 1
        +0.01
        >> . 1:1 ack 2 win 64000        # there and back in 10 ms: twice that, and 10 ms of grace
        !! write 30000
        << P. 2:30002 ack 1
        !! write 20000
        << P. 30002:50002 ack 1
        >> . 1:1 ack 2 win 64000 <sack 30002-50002>
        << P. 2:25002 ack 1
        +0.025
        >> . 1:1 ack 2 win 64000 <sack 30002-50002>
        +0.006
        << P. 2:25002 ack 1
        +0.19
        +0.02
        << . 2:1002 ack 1
        """
    )


def test_reports_of_nonsense_change_nothing() -> None:
    book = established(gso=False, offer="sackok").play(
        """
        !! write 3000
        << . 1:1001 ack 1
        << . 1001:2001 ack 1
        << P. 2001:3001 ack 1
        >> . 1:1 ack 1 win 64000 <sack 5000-9000 2001-1001 -500--300 1001-1001>
        >> . 1:1 ack 1 win 64000 <sack -90000-90000>
        >> . 1:1 ack 1 win 64000 <sack 1000-5000>
        >> . 1:1 ack 3001 win 64000
        +10
        """
    )
    assert book.connection is not None
    assert book.connection.sender.scoreboard is not None
    assert not len(book.connection.sender.scoreboard)


def test_reports_from_a_guest_that_never_offered_them_are_ignored() -> None:
    book = established(gso=False).play(
        "!! write 1500\n<< . 1:1001 ack 1\n<< P. 1001:1501 ack 1\n>> . 1:1 ack 1 win 64000 <sack 1001-1501>"
    )
    assert book.connection is not None
    assert book.connection.sender.scoreboard is None


def test_not_even_beside_an_acknowledgement_of_something_new() -> None:
    book = established(gso=False).play(
        """
        !! write 2500
        << . 1:1001 ack 1
        << . 1001:2001 ack 1
        << P. 2001:2501 ack 1
        >> . 1:1 ack 1001 win 64000 <sack 2001-2501>
        """
    )
    assert book.connection is not None
    assert book.connection.sender.scoreboard is None


def test_duplicates_of_what_went_out_before_a_time_out_begin_no_recovery() -> None:
    """RFC 6582 §3.2: it is all sent again anyway."""
    established(gso=False).play(
        """
        !! write 4000
        << . 1:1001 ack 1
        << . 1001:2001 ack 1
        << . 2001:3001 ack 1
        << P. 3001:4001 ack 1
        +0.21
        << . 1:1001 ack 1
        >> . 1:1 ack 1 win 64000
        >> . 1:1 ack 1 win 64000
        >> . 1:1 ack 1 win 64000
        """
    )


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


def test_a_lost_fin_behind_reported_text_is_sent_again_too() -> None:
    book = established(gso=False, offer="sackok").play(
        """
        !! write 2000
        << . 1:1001 ack 1
        << P. 1001:2001 ack 1
        !! close
        << F. 2001:2001 ack 1
        >> . 1:1 ack 1 win 64000 <sack 1001-2001>
        +0.21
        << . 1:1001 ack 1
        >> . 1:1 ack 2001 win 64000
        << F. 2001:2001 ack 1
        >> . 1:1 ack 2002 win 64000
        == FIN-WAIT-2
        """
    )
    assert book.connection is not None
    assert book.connection.state is State.FIN_WAIT_2


# What we report


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


def test_a_repair_is_not_measured_as_a_round_trip() -> None:
    """Text sent for the first time in a recovery is acknowledged only when the holes before it are filled."""
    book = established(gso=False, offer="sackok").play(
        """
        !! write 1
        << P. 1:2 ack 1
        +0.01
        >> . 1:1 ack 2 win 64000
        !! write 4000
        << . 2:1002 ack 1
        << . 1002:2002 ack 1
        << . 2002:3002 ack 1
        << P. 3002:4002 ack 1
        >> . 1:1 ack 2 win 64000 <sack 1002-4002>
        << P. 2:1002 ack 1
        !! write 1000
        << P. 4002:5002 ack 1
        """
    )
    assert book.connection is not None
    assert book.connection.sender.timed_seq >= 0
    book.play("+0.031\n<< P. 2:1002 ack 1")
    assert book.connection.sender.timed_seq == -1


def test_what_is_stepped_over_counts_neither_as_text_nor_as_window() -> None:
    established(gso=False, offer="sackok").play(
        """
        !! write 4500
        << . 1:1001 ack 1
        << . 1001:2001 ack 1
        << . 2001:3001 ack 1
        << . 3001:4001 ack 1
        << P. 4001:4501 ack 1
        !! close
        << F. 4501:4501 ack 1
        >> . 1:1 ack 1 win 4000 <sack 2001-3001>
        +0.21
        << . 1:1001 ack 1
        >> . 1:1 ack 1001 win 3000 <sack 2001-3001>
        << . 1001:2001 ack 1
        << . 3001:4001 ack 1            # the guest's window ends here
        >> . 1:1 ack 4001 win 5000
        << FP. 4001:4501 ack 1
        """
    )
