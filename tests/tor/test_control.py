# SPDX-License-Identifier: GPL-3.0-or-later
"""Tor's control protocol: replies as they come over the wire, and a real tor that speaks it."""

from __future__ import annotations

import itertools
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tornet.network import TorNetwork
from torbox.tor.control import (
    Circuit,
    Control,
    ControlError,
    Reply,
    ReplyParser,
    parse_bootstrap,
    parse_circuit,
)

WIRE = (
    b"250-version=0.4.9.11\r\n250 OK\r\n"
    b"250+circuit-status=\r\n1 BUILT a,b\r\n..dotted\r\n.\r\n250 OK\r\n"
    b'650 STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=5 TAG=conn SUMMARY="Connecting"\r\n'
    b"515 Authentication failed\r\n"
)
REPLIES = [
    Reply(250, ["version=0.4.9.11", "OK"]),
    Reply(250, ["circuit-status=\n1 BUILT a,b\n.dotted", "OK"]),
    Reply(650, ['STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=5 TAG=conn SUMMARY="Connecting"']),
    Reply(515, ["Authentication failed"]),
]


@given(st.lists(st.integers(0, len(WIRE)), max_size=8))
def test_replies_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    parser = ReplyParser()
    edges = [0, *sorted(cuts), len(WIRE)]
    got = [reply for a, b in itertools.pairwise(edges) for reply in parser.feed(WIRE[a:b])]
    assert got == REPLIES


@given(st.binary(max_size=200))
def test_any_bytes_are_replies_or_a_control_error(data: bytes) -> None:
    try:
        for reply in ReplyParser().feed(data + b"\r\n"):
            assert 0 <= reply.code <= 999
            assert reply.lines
    except ControlError:
        pass


@pytest.mark.parametrize("line", [b"HTTP/1.1 400 Bad Request", b"", b"25", b"250*OK", "٢٥٠ OK".encode()])
def test_what_is_no_reply_is_refused(line: bytes) -> None:
    with pytest.raises(ControlError, match="does not speak"):
        ReplyParser().feed(line + b"\r\n")


def test_a_reply_without_an_end_is_refused() -> None:
    with pytest.raises(ControlError, match="without an end"):
        ReplyParser().feed(b"x" * (5 << 20))
    with pytest.raises(ControlError, match="without an end"):
        ReplyParser().feed(b"250-" + b"x" * (5 << 20) + b"\r\n250-more\r\n")


def test_a_bootstrap_status_is_percent_and_summary() -> None:
    line = 'STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=45 TAG=requesting SUMMARY="Asking for relay descriptors"'
    assert parse_bootstrap(line) == (45, "Asking for relay descriptors")
    assert parse_bootstrap("STATUS_CLIENT NOTICE CIRCUIT_ESTABLISHED") is None


def test_a_circuit_line_gives_its_path_and_its_user() -> None:
    line = '7 BUILT $A~auth1,$B~relay PURPOSE=GENERAL SOCKS_USERNAME="alice" SOCKS_PASSWORD="x"'
    assert parse_circuit(line) == Circuit("7", "BUILT", ["$A~auth1", "$B~relay"], "GENERAL", "alice")
    assert parse_circuit("8 LAUNCHED PURPOSE=GENERAL").path == []


def test_a_real_tor_is_asked_and_refuses_what_it_does_not_know(tornet: TorNetwork) -> None:
    with tornet.control() as control:
        assert control.get_info("version").startswith("0.")
        assert "PROGRESS=100" in control.get_info("status/bootstrap-phase")
        with pytest.raises(ControlError, match="GETINFO: 552"):
            control.get_info("no-such-key")


def test_a_wrong_cookie_is_refused(tornet: TorNetwork, tmp_path: Path) -> None:
    (tmp_path / "cookie").write_bytes(bytes(32))
    with pytest.raises(ControlError, match="AUTHENTICATE: 515"):
        Control(tornet.control_path, tmp_path / "cookie")
    (tmp_path / "cookie").write_bytes(b"short")
    with pytest.raises(ControlError, match="not a control cookie"):
        Control(tornet.control_path, tmp_path / "cookie")


def test_events_that_come_before_a_reply_are_kept(tmp_path: Path) -> None:
    (tmp_path / "cookie").write_bytes(bytes(32))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "control"))
        server.listen()
        server.settimeout(10)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as early:
            # All answers wait in the socket before they are asked for.
            early.connect(str(tmp_path / "control"))
            served, _ = server.accept()
            with served:
                served.sendall(b"650 FIRST\r\n250 OK\r\n")
                control = object.__new__(Control)
                control.events, control._parser, control.socket = [], ReplyParser(), early
                assert control.command("SETEVENTS CIRC") == Reply(250, ["OK"])
                assert control.events == [Reply(650, ["FIRST"])]
                assert served.recv(100) == b"SETEVENTS CIRC\r\n"
            with pytest.raises(ControlError, match="closed the control connection"):
                control.receive()
