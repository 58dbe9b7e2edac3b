# SPDX-License-Identifier: GPL-3.0-or-later
"""Path MTU as a trace; what is believed and what not is in test_icmp.py."""

from __future__ import annotations

from tests.netstack.playbook import OUR_ISS, Playbook, stamped
from torbox.netstack.tcp.path_mtu import packet_too_big


def test_what_was_too_large_is_sent_again_in_smaller_packets_and_the_rest_follows() -> None:
    book = Playbook(mtu=9000, gso=False).play(
        """
        >> S 0:0 win 64000 <mss 8960>
        !! accept
        << S. 0:0 ack 1
        >> . 1:1 ack 1 win 64000
        !! write 9000
        << . 1:8961 ack 1
        << P. 8961:9001 ack 1
        """
    )
    assert book.connection is not None
    assert packet_too_big(book.connection, 1500, OUR_ISS + 1 & 0xFFFFFFFF)
    assert not packet_too_big(book.connection, 1500, OUR_ISS + 1 & 0xFFFFFFFF), "it is that small already"
    book.stack.mark(book.connection)
    book.play(
        """
        << P. 1:1461 ack 1
        >> . 1:1 ack 1461 win 64000
        +1.1
        << . 1461:2921 ack 1
        """
    )


def test_timestamps_take_their_room_from_the_smaller_packets_too() -> None:
    book = stamped().play("!! write 1000\n<< P. 1:1001 ack 1")
    assert book.connection is not None
    assert packet_too_big(book.connection, 600, OUR_ISS + 1 & 0xFFFFFFFF)
    assert book.connection.sender.mss == 600 - 40 - 12
    assert book.connection.super_size % (600 - 40 - 12) == 0
    book.stack.mark(book.connection)
    book.play("<< P. 1:1001 ack 1")
