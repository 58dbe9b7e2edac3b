# SPDX-License-Identifier: GPL-3.0-or-later
"""How connections begin, from either end, or are refused: packet traces, see playbook.py."""

from __future__ import annotations

import pytest

from tests.netstack.addresses import REMOTES, VERSIONS
from tests.netstack.playbook import Playbook, established
from torbox.netstack.tcp.rtt import RTO_INITIAL_S
from torbox.netstack.tcp.state import State
from torbox.netstack.wire import tcp


@VERSIONS
def test_a_syn_is_held_until_the_upstream_has_connected(version: int) -> None:
    mss = 1460 if version == 4 else 1440
    Playbook(version).play(
        f"""
        >> S 0:0 win 64000 <mss 1000,wscale 7>
        == SYN-RECEIVED
        +1
        >> S 0:0 win 64000 <mss 1000,wscale 7>      # the guest asks again: still no answer
        +2
        !! accept
        << S. 0:0 ack 1 win 65535 <mss {mss},wscale 5>
        >> . 1:1 ack 1 win 500
        == ESTABLISHED
        """
    )


def test_a_syn_that_acknowledges_what_was_not_sent_yet_changes_nothing() -> None:
    """In the turn in which the upstream has connected, and at the right number, our SYN seemed answered."""
    book = Playbook()
    book.guest.send_segment(REMOTES[4], (1000, 80), 1, 0, tcp.SYN, 64000)
    book._turn()
    (connection,) = book.opened
    connection.accept()
    book.guest.send_segment(REMOTES[4], (1000, 80), 1, connection.sender.iss, tcp.SYN | tcp.ACK, 64000)
    book.stack.receive(book.now)
    assert connection.state is State.SYN_RECEIVED
    assert not connection.sender.syn_acknowledged
    assert connection.snd_buf.write(b"hello") == len(connection.snd_buf) == 5


def test_window_scale_is_not_offered_to_a_guest_that_does_not() -> None:
    Playbook().play(
        """
        >> S 0:0 win 64000 <mss 1000>
        !! accept
        << S. 0:0 ack 1 win 65535 <mss 1460>
        """
    )


def test_a_scaled_window_is_taken_at_its_scale() -> None:
    Playbook(gso=False).play(
        """
        >> S 0:0 win 64000 <mss 1000,wscale 2>
        !! accept
        << S. 0:0 ack 1
        >> . 1:1 ack 1 win 500
        !! write 3000
        << . 1:1001 ack 1
        << . 1001:2001 ack 1          # 500 << 2 bytes in all
        """
    )


def test_a_syn_ack_that_is_lost_is_sent_again() -> None:
    Playbook().play(
        """
        >> S 0:0 win 64000
        !! accept
        << S. 0:0 ack 1
        +0.9
        +0.2
        << S. 0:0 ack 1
        +1.9
        +0.2
        << S. 0:0 ack 1
        >> S 0:0 win 64000            # the guest's own repetition gets an answer at once
        << S. 0:0 ack 1
        """
    )


def test_after_a_syn_ack_was_lost_the_first_text_is_waited_for_longer() -> None:
    """RFC 6298 §5.7, for a guest without timestamps: nothing was measured yet."""
    Playbook().play(
        """
        >> S 0:0 win 64000
        !! accept
        << S. 0:0 ack 1
        +1.1
        << S. 0:0 ack 1
        >> . 1:1 ack 1 win 64000
        !! write 500
        << P. 1:501 ack 1
        +2.9
        +0.2
        << P. 1:501 ack 1
        """
    )


def test_an_answer_that_was_given_twice_measures_nothing() -> None:
    """Karn's algorithm: the guest repeated its SYN, and which SYN-ACK it acknowledges is unknown."""
    book = Playbook().play(
        """
        >> S 0:0 win 64000
        !! accept
        << S. 0:0 ack 1
        +0.9
        >> S 0:0 win 64000
        << S. 0:0 ack 1
        >> . 1:1 ack 1 win 64000
        == ESTABLISHED
        """
    )
    assert book.connection is not None
    assert book.connection.sender.rtt.srtt_s == 0
    assert book.connection.sender.rtt.rto_s == RTO_INITIAL_S


def test_a_handshake_that_is_never_finished_is_given_up() -> None:
    book = Playbook().play(
        """
        >> S 0:0 win 64000
        !! accept
        << S. 0:0 ack 1
        """
    )
    assert book.connection is not None
    while book.connection.state is State.SYN_RECEIVED and book.now < 2000:
        book.now = max(book.now, book.stack.deadline)
        book.stack.expire(book.now)
        book.stack.flush(book.now)
    assert book.connection.was_reset
    assert 150 < book.now - 1000 < 400
    assert len(book.device.to_guest) == 8  # seven times the SYN-ACK, and a reset
    assert not book.stack.connections


def test_a_syn_that_no_upstream_ever_answers_is_forgotten() -> None:
    book = Playbook()
    for second in (0, 1, 3, 7, 15, 31, 63, 127):
        book.now = 1000.0 + second
        book.play(">> S 0:0 win 64000\n== SYN-RECEIVED")
    book.play("+52\n== SYN-RECEIVED\n+2\n== CLOSED")
    assert book.connection is not None
    assert book.connection.was_reset
    assert not book.stack.connections


@pytest.mark.parametrize("heard", [(0,), (0, 1), (0, 1, 3, 7), (0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67)])
def test_a_guest_that_no_longer_repeats_its_syn_has_given_up(heard: tuple[int, ...]) -> None:
    """Linux says nothing when a connecting socket is closed; upstreams and places are not held for it."""
    book = Playbook()
    for second in heard:
        book.now = 1000.0 + second
        book.play(">> S 0:0 win 64000\n== SYN-RECEIVED")
    due = heard[-1] + 1  # with doubled intervals; by then a guest that has not given up was heard again
    book.play(f"+{due + 0.9}\n== SYN-RECEIVED\n+0.2\n== CLOSED")
    assert len(book.opened) == 1
    assert not book.stack.half_open
    book.play(">> S 0:0 win 64000\n== SYN-RECEIVED")  # heard after all: tried anew
    assert len(book.opened) == 2


def test_a_syn_that_was_answered_is_waited_for_by_its_answers_timer() -> None:
    Playbook().play(
        """
        >> S 0:0 win 64000
        !! accept
        << S. 0:0 ack 1
        >> S 0:0 win 64000
        << S. 0:0 ack 1
        +2.5
        << S. 0:0 ack 1
        == SYN-RECEIVED
        """
    )


def test_a_guest_that_gives_up_while_its_syn_is_held_is_forgotten() -> None:
    Playbook().play(">> S 0:0 win 64000\n== SYN-RECEIVED\n>> R 1:1\n== CLOSED")


@pytest.mark.parametrize(
    ("why", "v4", "v6"),
    [
        ("NET_UNREACHABLE", "icmp type 3 code 0", "icmp type 1 code 0"),
        ("HOST_UNREACHABLE", "icmp type 3 code 1", "icmp type 1 code 3"),
        ("PROHIBITED", "icmp type 3 code 13", "icmp type 1 code 1"),
    ],
)
@VERSIONS
def test_a_refusal_is_the_icmp_error_that_it_is(version: int, why: str, v4: str, v6: str) -> None:
    answer = v4 if version == 4 else v6
    book = Playbook(version).play(f">> S 0:0 win 64000\n!! refuse {why}\n<< {answer}\n== CLOSED")
    assert not book.stack.connections
    assert not book.stack.half_open


def test_a_refused_connection_is_reset() -> None:
    book = Playbook()
    book.our_iss = 0  # RFC 9293 §3.10.7.1: the reset to a SYN has sequence number zero
    book.play(">> S 0:0 win 64000\n!! refuse REFUSED\n<< R. 0:0 ack 1\n== CLOSED")
    assert not book.stack.connections


def test_a_timed_out_connection_is_silence_for_as_long_as_the_guest_repeats_itself() -> None:
    book = Playbook().play(
        """
        >> S 0:0 win 64000
        !! refuse TIMED_OUT
        == CLOSED
        +60
        >> S 0:0 win 64000
        +60
        """
    )
    assert len(book.opened) == 1
    book.guest_iss += 50
    book.play(">> S 0:0 win 64000")  # another attempt
    assert len(book.opened) == 2


def test_a_refusal_after_the_handshake_is_a_reset() -> None:
    established().play("!! refuse PROHIBITED\n<< R. 1:1 ack 1\n== CLOSED")


def test_an_acknowledgement_of_nothing_sent_is_reset_and_the_handshake_goes_on() -> None:
    Playbook().play(
        """
        >> S 0:0 win 64000
        !! accept
        << S. 0:0 ack 1
        >> . 1:1 ack 77 win 64000
        << R 77:77 win 0
        == SYN-RECEIVED
        >> . 1:1 ack 1 win 64000
        == ESTABLISHED
        """
    )


def test_text_in_the_segment_that_ends_the_handshake_is_taken() -> None:
    Playbook().play(
        """
        >> S 0:0 win 64000
        !! accept
        << S. 0:0 ack 1
        >> P. 1:11 ack 1 win 64000
        == ESTABLISHED
        !! read 10
        +0.05
        << . 1:1 ack 11
        """
    )


@VERSIONS
def test_we_can_connect_to_the_guest(version: int) -> None:
    Playbook(version).play(
        """
        !! connect
        << S 0:0 win 65535
        == SYN-SENT
        >> S. 0:0 ack 1 win 64000 <mss 1000,wscale 3>
        << . 1:1 ack 1
        == ESTABLISHED
        !! write 10
        << P. 1:11 ack 1
        """
    )


def test_text_and_a_close_may_be_ready_before_the_guest_has_answered() -> None:
    Playbook().play(
        """
        !! connect
        << S 0:0
        !! write 10
        !! close
        >> S. 0:0 ack 1 win 64000
        << FP. 1:11 ack 1
        == FIN-WAIT-1
        """
    )


def test_a_connect_to_a_closed_port_of_the_guest_ends_at_once() -> None:
    book = Playbook().play("!! connect\n<< S 0:0\n>> R. 0:0 ack 1\n== CLOSED")
    assert book.connection is not None
    assert book.connection.was_reset


def test_both_ends_may_open_at_once() -> None:
    Playbook().play(
        """
        !! connect
        << S 0:0
        >> S 0:0 win 64000
        << S. 0:0 ack 1
        == SYN-RECEIVED
        >> . 1:1 ack 1 win 64000
        == ESTABLISHED
        """
    )


def test_a_mss_of_one_does_not_make_a_packet_of_every_byte() -> None:
    Playbook(gso=False).play(
        """
        >> S 0:0 win 64000 <mss 1>
        !! accept
        << S. 0:0 ack 1
        >> . 1:1 ack 1 win 64000
        !! write 100
        << . 1:65 ack 1
        << P. 65:101 ack 1
        """
    )
