# SPDX-License-Identifier: GPL-3.0-or-later
"""Timestamps, RFC 7323: offered, echoed, and old ones turned away. Packet traces, see playbook.py."""

from __future__ import annotations

from tests.netstack.addresses import REMOTES
from tests.netstack.playbook import Playbook, stamped
from torbox.netstack.tcp.rtt import RTO_MIN_S
from torbox.netstack.tcp.sender import CWND_OPEN
from torbox.netstack.tcp.timestamps import OUTDATED_S, Timestamps
from torbox.netstack.wire import tcp


def test_the_clock_ticks_in_milliseconds_and_goes_round() -> None:
    clock = Timestamps(0xFFFFFFFF)
    assert clock.value(0.0) == 0xFFFFFFFF
    assert clock.value(1.5) == 1499
    assert clock.age_s(499, 1.5) == 1.0
    assert clock.age_s(1500, 1.5) == -1.0


def test_old_is_what_lies_before_the_last_unless_that_is_24_days_ago() -> None:
    clock = Timestamps(0)
    clock.take(5, 100.0)
    assert clock.is_old(4, 101.0)
    assert clock.is_old(0xFFFFFFF0, 101.0)
    assert not clock.is_old(5, 101.0)
    assert not clock.is_old(4, 101.0 + OUTDATED_S)


def test_they_are_answered_only_if_offered() -> None:
    stamped()
    Playbook().play(">> S 0:0 win 64000\n!! accept\n<< S. 0:0 ack 1 win 65535 <mss 1460>")


def test_a_held_syn_that_is_repeated_is_echoed_as_it_came_last() -> None:
    Playbook().play(
        """
        >> S 0:0 win 64000 <mss 1000,ts 100 0>
        +1
        >> S 0:0 win 64000 <mss 1000,ts 1100 0>
        !! accept
        << S. 0:0 ack 1 win 65535 <mss 1460,ts 1000 1100>
        """
    )


def test_we_offer_them_when_we_connect() -> None:
    Playbook().play(
        """
        !! connect
        << S 0:0 win 65535 <mss 1460,wscale 5,sackok,ts 0 0>
        >> S. 0:0 ack 1 win 64000 <mss 1012,sackok,ts 700 0>
        << . 1:1 ack 1 win 65535 <ts 0 700>
        == ESTABLISHED
        """
    )
    Playbook().play(
        """
        !! connect
        << S 0:0 win 65535 <mss 1460,wscale 5,sackok,ts 0 0>
        >> S. 0:0 ack 1 win 64000 <mss 1012>
        << . 1:1 ack 1 win 65535
        """
    )


def test_every_segment_has_one() -> None:
    stamped().play(
        """
        +1
        !! write 10
        << P. 1:11 ack 1 win 65535 <ts 1000 100>
        >> P. 1:11 ack 11 win 64000 <ts 200 1000>
        +0.05
        << . 11:11 ack 11 win 65535 <ts 1050 200>
        !! abort
        << R. 11:11 ack 11 win 0 <ts 1050 200>
        """
    )


def test_the_option_takes_its_room_from_the_text() -> None:
    """RFC 6691: the announced size does not count options."""
    stamped(gso=False).play("!! write 1500\n<< . 1:1001 ack 1\n<< P. 1001:1501 ack 1")


def test_a_super_packet_is_cut_where_the_options_leave_room() -> None:
    book = stamped()
    assert book.connection is not None
    book.connection.snd_buf.write(bytes(200_000))
    book.connection.sender.wnd = 200_000
    book.stack.mark(book.connection)
    book.stack.flush(book.now)
    total = 0
    while (received := book.guest.received()) is not None:
        header, packet = received
        assert header.gso_size == 1000
        assert header.hdr_len == 20 + 20 + 12
        size = packet.end - packet.start - 32
        assert size % 1000 == 0
        assert packet.end - packet.header <= 65535
        total += size
    assert total == 200_000


def test_a_super_packet_of_segments_of_64_kib_still_fits_a_length_field() -> None:
    # 13,099 bytes of text five times are all that fits without options
    for version, mss in ((4, 65535), (6, 65535), (4, 13_111)):
        book = Playbook(version, mtu=65535)
        book.play(
            f"""
            >> S 0:0 win 65535 <mss {mss},wscale 4,ts 1 0>
            !! accept
            << S. 0:0 ack 1
            >> . 1:1 ack 1 win 65535 <ts 1 0>
            """
        )
        assert book.connection is not None
        book.connection.snd_buf.write(bytes(100_000))
        book.stack.mark(book.connection)
        book.stack.flush(book.now)
        assert book.guest.received() is not None
        assert book.guest.received() is not None


def test_a_segment_from_an_earlier_turn_of_the_numbers_is_turned_away() -> None:
    stamped().play(
        """
        >> P. 1:11 ack 1 win 64000 <ts 200 0>
        +0.05
        << . 1:1 ack 11
        >> P. 11:21 ack 1 win 64000 <ts 199 0>
        << . 1:1 ack 11 win 65535 <ts 50 200>
        >> P. 11:21 ack 1 win 64000 <ts 200 0>
        +0.05
        << . 1:1 ack 21
        !! read 20
        """
    )


def test_a_reset_is_believed_whatever_its_timestamp() -> None:
    stamped().play(">> P. 1:11 ack 1 win 64000 <ts 200 0>\n>> R 11:11 <ts 5 0>\n== CLOSED")
    stamped().play(">> R 1:1\n== CLOSED")


def test_a_reset_that_is_challenged_says_nothing_about_time() -> None:
    """RFC 7323 §5.2. Its timestamp would make the guest's next segments old."""
    stamped().play(
        """
        >> R. -9:11 ack 1 win 64000 <ts 4000000 0>
        << . 1:1 ack 1 <ts 0 100>
        >> P. 1:11 ack 1 win 64000 <ts 101 0>
        !! read 10
        +0.05
        << . 1:1 ack 11 <ts 50 101>
        """
    )


def test_after_24_days_of_silence_no_timestamp_is_old() -> None:
    book = stamped()
    book.now += OUTDATED_S
    book.play(">> P. 1:11 ack 1 win 64000 <ts 50 0>\n+0.05\n<< . 1:1 ack 11\n!! read 10")


def test_a_segment_without_one_is_dropped() -> None:
    stamped().play(">> P. 1:11 ack 1 win 64000\n+1\n>> F. 1:1 ack 1 win 64000\n== ESTABLISHED")


def test_what_came_early_is_not_echoed_before_the_gap_is_filled() -> None:
    """RFC 7323 §4.3: the echo is of the segment that the acknowledgement waited for."""
    stamped().play(
        """
        >> P. 11:21 ack 1 win 64000 <ts 300 0>
        << . 1:1 ack 1 win 65535 <ts 0 100,sack 11-21>
        >> P. 1:11 ack 1 win 64000 <ts 250 0>
        << . 1:1 ack 21 win 65535 <ts 0 250>
        """
    )


def test_a_delayed_acknowledgement_echoes_the_first_segment() -> None:
    stamped().play(
        """
        >> P. 1:11 ack 1 win 64000 <ts 200 0>
        >> P. 11:21 ack 1 win 64000 <ts 230 0>
        +0.05
        << . 1:1 ack 21 win 65535 <ts 50 200>
        """
    )


def test_three_blocks_find_room_beside_them() -> None:
    book = stamped()
    script = "".join(f">> . {at}:{at + 10} ack 1 win 64000 <ts 200 0>\n" for at in range(11, 111, 20))
    book.play(script + "<< . 1:1 ack 1 win 65535 <ts 0 100,sack 91-101 71-81 51-61>")


def test_a_time_out_that_was_too_early_is_taken_back() -> None:
    """Eifel, RFC 3522: the acknowledgement echoes the original, so nothing was lost."""
    book = stamped(gso=False).play(
        """
        !! write 3000
        << . 1:1001 ack 1
        << . 1001:2001 ack 1
        << P. 2001:3001 ack 1
        +1
        << . 1:1001 ack 1
        >> . 1:1 ack 1001 win 64000 <ts 200 0>
        +0                              # nothing more is sent again
        >> . 1:1 ack 3001 win 64000 <ts 200 0>
        !! write 3000
        << . 3001:4001 ack 1
        << . 4001:5001 ack 1
        << P. 5001:6001 ack 1
        """
    )
    assert book.connection is not None
    assert book.connection.sender.resent == 1


def test_of_several_time_outs_that_were_too_early_the_first_is_taken_back() -> None:
    book = stamped().play(
        "!! write 500\n<< P. 1:501 ack 1\n+0.21\n<< P. 1:501 ack 1\n+0.41\n<< P. 1:501 ack 1"
    )
    assert book.connection is not None
    sender = book.connection.sender
    assert sender.cwnd == sender.mss
    book.play(">> . 1:1 ack 501 win 64000 <ts 200 0>")
    assert sender.cwnd == sender.ssthresh == CWND_OPEN  # as before the first


def test_a_time_out_that_was_right_stays() -> None:
    stamped(gso=False).play(
        """
        !! write 3000
        << . 1:1001 ack 1
        << . 1001:2001 ack 1
        << P. 2001:3001 ack 1
        +1
        << . 1:1001 ack 1
        >> . 1:1 ack 1001 win 64000 <ts 200 1000>
        << . 1001:2001 ack 1
        << P. 2001:3001 ack 1
        """
    )


def test_an_echo_from_nowhere_moves_no_timer_beyond_its_bound() -> None:
    book = stamped(gso=False)
    for echo in (-2_000_000_000, 2_000_000_000, 77):
        book.play("!! write 1\n<< P. 1:2 ack 1\n+1\n<< P. 1:2 ack 1" if book.written == 0 else "")
        book.play(f">> . 1:1 ack 2 win 64000 <ts 200 {echo}>")
    assert book.connection is not None
    assert book.connection.sender.rtt.rto_s <= 60


def test_a_syn_in_time_wait_is_new_by_its_timestamp() -> None:
    """RFC 6191 §2, though its number is lower."""
    script = """
        !! close
        << F. 1:1 ack 1
        >> F. 1:1 ack 2 win 64000 <ts 200 0>
        << . 2:2 ack 2
        == TIME-WAIT
        """
    book = stamped().play(script)
    book.guest_iss -= 1000
    book.play(">> S 0:0 win 64000 <mss 1000,ts 201 0>\n== SYN-RECEIVED")
    assert len(book.opened) == 2
    book = stamped().play(script)
    book.play(">> S 900:900 win 64000 <mss 1000,ts 199 0>\n<< . 2:2 ack 2\n== TIME-WAIT")
    book = stamped().play(script)
    book.play(">> S 900:900 win 64000 <mss 1000,ts 200 0>\n== SYN-RECEIVED")
    book = stamped().play(script)
    book.play(">> S 900:900 win 64000 <mss 1000>\n== SYN-RECEIVED")


def test_options_in_another_order_are_understood() -> None:
    book = stamped()
    value = (200).to_bytes(4, "big") + bytes(4)
    for number, options in enumerate((b"\x08\x0a" + value + b"\1\1", b"\1\x08\x0a" + value + b"\1")):
        seq = (book.guest_iss + 1 + number) & 0xFFFFFFFF
        book.guest.send_segment(REMOTES[4], (40000, 80), seq, book.our_iss + 1, tcp.ACK, 64000, options, b"x")
    book._turn()
    assert book.connection is not None
    assert len(book.connection.rcv_buf) == 2


def test_an_acknowledgement_that_was_lost_is_no_long_way() -> None:
    """It echoes the first retransmission; what lies between is how long it took to ask again."""
    book = stamped().play(
        """
        !! write 10
        << P. 1:11 ack 1
        +0.25
        << P. 1:11 ack 1 win 65535 <ts 250 100>
        +0.5
        << P. 1:11 ack 1 win 65535 <ts 750 100>
        +0.01
        >> . 1:1 ack 11 win 64000 <ts 200 250>
        """
    )
    assert book.connection is not None
    assert book.connection.sender.rtt.rto_s == RTO_MIN_S


def test_what_was_sent_twice_is_measured_by_its_timestamp() -> None:
    book = stamped().play(
        """
        !! write 10
        << P. 1:11 ack 1
        +0.25
        << P. 1:11 ack 1 win 65535 <ts 250 100>
        +0.15
        >> . 1:1 ack 11 win 64000 <ts 200 250>
        """
    )
    assert book.connection is not None
    assert book.connection.sender.rtt.srtt_s > 0.01
