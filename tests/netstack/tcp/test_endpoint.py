# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said in which state, and how much of it at once: packet traces, see playbook.py."""

from __future__ import annotations

import pytest

from tests.netstack.playbook import Playbook, established


def test_a_silly_window_grows_first_while_something_is_in_flight() -> None:
    established(gso=False).play(
        """
        >> . 1:1 ack 1 win 1500
        !! write 5000
        << . 1:1001 ack 1               # 500 more would fit
        >> . 1:1 ack 1001 win 2000
        << . 1001:2001 ack 1
        << . 2001:3001 ack 1
        """
    )


def test_the_rest_is_sent_into_any_window_that_holds_it() -> None:
    established(gso=False).play(
        ">> . 1:1 ack 1 win 1500\n!! write 1200\n<< . 1:1001 ack 1\n<< P. 1001:1201 ack 1"
    )


@pytest.mark.parametrize("window", [1, 999, 30_000, 65_479])
def test_no_window_is_waited_for_when_nothing_is_in_flight(window: int) -> None:
    """slirp4netns issue 284: with segments of 65,480 bytes, a receiver of 64 KiB was let wait 5 s."""
    Playbook(mtu=65520).play(
        f"""
        >> S 0:0 win 65535 <mss 65480>
        !! accept
        << S. 0:0 ack 1
        >> . 1:1 ack 1 win {window}
        !! write 200000
        << . 1:{window + 1} ack 1
        >> . 1:1 ack {window + 1} win {window}
        << . {window + 1}:{2 * window + 1} ack 1
        """
    )


def test_with_segments_of_64_kib_half_a_window_is_not_silly() -> None:
    Playbook(mtu=65520).play(
        """
        >> S 0:0 win 65535 <mss 65480>
        !! accept
        << S. 0:0 ack 1
        >> . 1:1 ack 1 win 65535
        !! write 60000
        << P. 1:60001 ack 1
        !! write 60000
        << . 60001:65536 ack 1          # 5,535 bytes are worth a packet
        >> . 1:1 ack 60001 win 9000
        +0
        """
    )


def test_small_writes_go_out_at_once() -> None:
    established().play(
        "!! write 1\n<< P. 1:2 ack 1\n!! write 1\n<< P. 2:3 ack 1\n!! write 1\n<< P. 3:4 ack 1"
    )


def test_a_scrap_waits_for_what_comes_in_the_next_turn_and_for_nothing_else() -> None:
    book = established(gso=False)
    assert book.connection is not None
    ring = book.connection.snd_buf
    ring.more = True
    book.play("!! write 2500\n<< . 1:1001 ack 1\n<< . 1001:2001 ack 1\n>> . 1:1 ack 2001 win 64000")
    ring.more = False
    book.stack.mark(book.connection)
    book.play("<< P. 2001:2501 ack 1\n+0.19")
    ring.more = True  # what is sent again never waits
    book.play("+0.02\n<< P. 2001:2501 ack 1")


def test_a_reader_that_is_only_half_gone_may_take_its_time() -> None:
    established().play(
        "!! close\n<< F. 1:1 ack 1\n>> . 1:1 ack 2 win 64000\n+100000\n== FIN-WAIT-2\n"
        ">> P. 1:11 ack 2 win 64000\n!! read 10\n+0.05\n<< . 2:2 ack 11"
    )


def test_a_probe_of_the_owner_goes_out_in_every_state_that_has_a_guest() -> None:
    book = established()
    assert book.connection is not None
    book.connection.probe()
    book.play("<< . 0:0 ack 1\n!! close\n<< F. 1:1 ack 1\n>> . 1:1 ack 2 win 64000\n== FIN-WAIT-2")
    book.connection.probe()
    book.play("<< . 1:1 ack 1")
