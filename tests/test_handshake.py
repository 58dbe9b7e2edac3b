# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages arrive whole, in order, with their descriptors, and end of file is no message."""

from __future__ import annotations

import os
import resource

import pytest

from torbox import handshake
from torbox.handshake import Kind


def test_a_message_arrives_with_its_fields_and_descriptors() -> None:
    ours, theirs = handshake.pair()
    readable, writable = os.pipe()
    with ours, theirs:
        handshake.send(theirs, Kind.TUN, 65520, 1, descriptors=(readable,))
        message = handshake.receive(ours)
    assert message is not None
    assert (message.kind, message.fields) == (Kind.TUN, ("65520", "1"))
    (received,) = message.descriptors
    assert not os.get_inheritable(received)
    os.write(writable, b"x")
    assert os.read(received, 9) == b"x"
    for descriptor in (readable, writable, received):
        os.close(descriptor)


def test_messages_keep_their_borders() -> None:
    ours, theirs = handshake.pair()
    with ours, theirs:
        handshake.send(theirs, Kind.UNSHARED)
        handshake.send(theirs, Kind.FAILED, "step", 2, "a\0b", "")
        assert handshake.receive(ours) == (Kind.UNSHARED, (), ())
        assert handshake.receive(ours) == (Kind.FAILED, ("step", "2", "a b", ""), ())


def test_what_was_said_last_is_heard_of_one_that_ended_before_it_had_read_all() -> None:
    ours, theirs = handshake.pair()
    with ours:
        handshake.send(ours, Kind.PROCEED)
        handshake.send(theirs, Kind.FAILED, "step")
        theirs.close()
        assert handshake.receive(ours) == (Kind.FAILED, ("step",), ())
        assert handshake.receive(ours) is None


def test_any_bytes_of_a_path_survive() -> None:
    ours, theirs = handshake.pair()
    with ours, theirs:
        handshake.send(theirs, Kind.FAILED, os.fsdecode(b"/tmp/\xff\n"))
        message = handshake.receive(ours)
    assert message is not None
    assert os.fsencode(message.fields[0]) == b"/tmp/\xff\n"


def test_end_of_file_is_none() -> None:
    ours, theirs = handshake.pair()
    theirs.close()
    with ours:
        assert handshake.receive(ours) is None
        with pytest.raises(OSError):
            handshake.send(ours, Kind.PROCEED)


def test_a_field_longer_than_its_limit_is_cut_and_the_others_stay() -> None:
    ours, theirs = handshake.pair()
    with ours, theirs:
        handshake.send(theirs, Kind.FAILED, "step", 36, "x" * 10_000, "advice")
        message = handshake.receive(ours)
    assert message is not None
    assert message.fields == ("step", "36", "x" * handshake.FIELD_LIMIT, "advice")


def test_descriptors_that_did_not_arrive_are_an_error() -> None:
    ours, theirs = handshake.pair()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ours, theirs:
        handshake.send(theirs, Kind.TUN, 1500, 0, descriptors=(ours.fileno(),))
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                handshake.receive(ours)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
