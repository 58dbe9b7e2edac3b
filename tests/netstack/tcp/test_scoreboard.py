# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guest reports to hold, and what is sent again because of it: RFC 2018 and RFC 6675."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.netstack.playbook import Playbook, established
from torbox.netstack.ring import Ring, RingPool
from torbox.netstack.tcp.scoreboard import MAX_BLOCKS, Scoreboard
from torbox.netstack.tcp.sender import Sender
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


def recovering(*blocks: tuple[int, int], unsent: int = 0) -> Sender:
    """Ten segments of 1,000 bytes from 1 on are in flight, of which the guest has reported these."""
    ring = Ring(1 << 20, pool=RingPool())
    sender = Sender(ring, 1000, 0)
    sender.sent(1, 0.0)
    sender.acknowledge(1, 0.0)
    ring.write(bytes(10_000 + unsent))
    sender.set_window(0, 1, 1 << 20)
    sender.sent(10_000, 0.0)
    assert sender.reported(blocks)
    assert sender.recovering
    return sender


def sent_again(sender: Sender) -> list[tuple[int, int]]:
    """What `Endpoint._resend` makes of it: where each segment begins, and its size."""
    found = []
    while (lost := sender.lost())[1]:
        found.append(lost)
        sender.high_rxt = sum(lost)
    return found


HOLED = ((2001, 3001), (4001, 5001), (6001, 7001))


def test_what_goes_again_goes_in_the_order_of_rfc_6675() -> None:
    sender = recovering(*HOLED)
    sender.cwnd = 1 << 20
    assert sent_again(sender) == [
        (1, 2000),  # rule 1: three blocks lie behind it
        (3001, 1000),  # rule 3: two and one do
        (5001, 1000),
        (7001, 3000),  # rule 4: none does, and once
    ]
    assert sent_again(sender) == []


def test_text_that_was_never_sent_goes_before_what_is_only_perhaps_lost() -> None:
    sender = recovering(*HOLED, unsent=1)
    sender.cwnd = 1 << 20
    assert sent_again(sender) == [(1, 2000)]


def test_only_as_much_goes_again_as_the_pipe_has_room_for_but_the_first_at_once() -> None:
    sender = recovering(*HOLED)
    assert sender.cwnd == 5000  # and 5,000 bytes are neither reported nor lost: the pipe is full
    assert sent_again(sender) == [(1, 1000)]
    sender.cwnd = 7000
    assert sent_again(sender) == [(1001, 1000)]


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
        >> . 1:1 ack 1001 win 64000             # it need not say so again
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


def test_a_report_beside_an_acknowledgement_of_something_new_counts() -> None:
    book = established(gso=False, offer="sackok").play(
        """
        !! write 2500
        << . 1:1001 ack 1
        << . 1001:2001 ack 1
        << P. 2001:2501 ack 1
        >> . 1:1 ack 1001 win 64000 <sack 2001-2501>
        """
    )
    assert book.connection is not None
    assert book.connection.sender.scoreboard is not None
    assert book.connection.sender.scoreboard.total == 500
    book.play(">> . 1:1 ack 2501 win 64000")
    assert book.connection.sender.scoreboard.total == 0


def test_what_was_reported_once_is_remembered_and_no_news_the_second_time() -> None:
    book = established(gso=False, offer="sackok").play(
        """
        !! write 5000
        << . 1:1001 ack 1
        << . 1001:2001 ack 1
        << . 2001:3001 ack 1
        << . 3001:4001 ack 1
        << P. 4001:5001 ack 1
        >> . 1:1 ack 1 win 64000 <sack 1001-2001>
        >> . 1:1 ack 1 win 64000 <sack 1001-2001>
        >> . 1:1 ack 1 win 64000 <sack 1001-2001>
        >> . 1:1 ack 1 win 64000 <sack 1001-2001>
        >> . 1:1 ack 1 win 64000 <sack 3001-4001>
        """
    )
    assert book.connection is not None
    sender = book.connection.sender
    assert sender.scoreboard is not None
    assert sender.scoreboard.total == 2000
    assert sender.duplicates == 2  # RFC 6675 §2: those that told something new


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
