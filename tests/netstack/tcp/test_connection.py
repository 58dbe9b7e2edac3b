# SPDX-License-Identifier: GPL-3.0-or-later
"""How connections begin and end, and how many there may be: packet traces, see playbook.py."""

from __future__ import annotations

import pytest

from tests.netstack.playbook import REMOTES, Playbook, established
from torbox.netstack.stack import StackConfig
from torbox.netstack.tcp.state import State

VERSIONS = pytest.mark.parametrize("version", [4, 6])


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
        << R. 77:77 ack 1 win 0
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


def test_half_open_connections_are_bounded_and_the_oldest_gives_way_in_silence() -> None:
    book = Playbook(config=StackConfig(max_half_open=3))
    for port in range(5):
        book.guest.send_segment(REMOTES[4], (1000 + port, 80 + port), 1, 0, 2, 64000)
    book.guest.send_segment(REMOTES[4], (1005, 84), 1, 0, 2, 64000)  # a second one to the same place
    book._turn()
    assert book.stack.counters.dropped == {"tcp: too many half-open connections": 1}
    assert len(book.opened) == 5
    assert [it.key.guest_port for it in book.stack.half_open] == [1002, 1003, 1004]
    assert [it.state for it in book.opened[:2]] == [State.CLOSED] * 2
    assert list(book.stack.connections.values()) == book.opened[2:]
    assert book.stack.counters.half_open_gave_way == 2
    assert not book.device.to_guest
    book.opened[2].abort()
    book.stack.flush(book.now)
    assert len(book.stack.half_open) == 2


@VERSIONS
def test_a_full_table_of_half_open_connections_keeps_nobody_out(version: int) -> None:
    book = Playbook(version, config=StackConfig(max_half_open=1))
    for port, address in enumerate((REMOTES[version], book.stack.config.own[version == 6], REMOTES[version])):
        book.guest.send_segment(address, (1000 + port, 53), 1, 0, 2, 64000)
    book._turn()
    assert [connection.key.guest_port for connection in book.opened] == [1000, 1001, 1002]
    assert [connection.key.guest_port for connection in book.stack.half_open] == [1002]


def test_those_that_are_answered_wait_for_the_guest_beside_any_number_of_syns_but_within_a_bound() -> None:
    book = Playbook(config=StackConfig(max_half_open=2))
    for port in range(6):
        book.guest.send_segment(REMOTES[4], (1000 + port, 80), 1, 0, 2, 64000)
        book._turn()
        if port < 3:
            book.opened[-1].accept()
            book._turn()
    book._turn()
    assert [it.key.guest_port for it in book.stack.half_open] == [1004, 1005, 1001, 1002]
    assert book.stack.counters.half_open_gave_way == 2
    assert list(book.stack.connections.values()) == [*book.opened[1:3], *book.opened[4:]]


def test_who_gave_way_may_try_again_with_the_same_ports() -> None:
    book = Playbook(config=StackConfig(max_half_open=1))
    for port in (1000, 1001, 1000):
        book.guest.send_segment(REMOTES[4], (port, port - 900), 1, 0, 2, 64000)
    book._turn()  # all in one
    assert [it.state for it in book.opened] == [State.CLOSED, State.CLOSED, State.SYN_RECEIVED]
    assert list(book.stack.connections.values()) == book.opened[2:]


def test_connections_given_up_make_room_within_two_seconds() -> None:
    book = Playbook(config=StackConfig(max_half_open=3))
    for port in range(5):
        book.guest.send_segment(REMOTES[4], (1000 + port, 80 + port), 1, 0, 2, 64000)
    book._turn()
    book.now += 2.0
    book.stack.expire(book.now)
    book.stack.flush(book.now)
    assert not book.stack.connections
    book.guest.send_segment(REMOTES[4], (1004, 80), 1, 0, 2, 64000)
    book._turn()
    assert [connection.key.guest_port for connection in book.opened] == [1000, 1001, 1002, 1003, 1004, 1004]


def test_connections_are_bounded() -> None:
    book = Playbook(config=StackConfig(max_connections=3))
    for port in range(5):
        book.guest.send_segment(bytes((192, 0, 2, 7)), (1000 + port, 80), 1, 0, 2, 64000)
    book._turn()
    assert len(book.stack.connections) == 3
    assert book.stack.counters.dropped == {"tcp: too many connections": 2}


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
