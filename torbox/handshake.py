# SPDX-License-Identifier: GPL-3.0-or-later
"""The few messages between the parent and the sandbox it is building.

    parent                         child
           ◄──────── UNSHARED      the new namespaces are there, unmapped
    MAPPED ────────►               uid_map and gid_map are written
           ◄──────── TUN + fds     mtu, gso; the descriptors of the tun's queues
   PROCEED ────────►               the stack is running on them
           ◄──────── PTY + fd      the master of the sandbox's terminal, where one is wanted
           ◄──────── end of file   the program was executed (the last copy is close-on-exec)
           ◄──────── MISSING       at any point: a protection that the user allows to be missing, and why
           ◄──────── FAILED        at any point: the step, its errno, details

    and from then on, on a second socket between the supervisor and pid 1:

           ◄──────── STOPPED       the program was stopped by this signal
           ◄──────── EXITED        the program's exit status, or the signal that ended it, negative
    SIGNAL ────────►               deliver this signal to the program
  CONTINUE ────────►               resume it, in the foreground of its terminal or not

A message is one packet of a SOCK_SEQPACKET socket: its kind and its fields, joined by NUL bytes,
with descriptors as SCM_RIGHTS (unix(7)). Both ends are torbox's own: the program never holds one.
"""

from __future__ import annotations

import enum
import errno
import os
import socket
from typing import NamedTuple

MESSAGE_LIMIT = 16384  # bytes
FIELD_LIMIT = 3072  # bytes; a path or a command may be longer, and its beginning says which
DESCRIPTOR_LIMIT = 64  # tun queues, one per worker


class Kind(enum.Enum):
    UNSHARED = "unshared"
    MAPPED = "mapped"
    TUN = "tun"
    PROCEED = "proceed"
    PTY = "pty"
    MISSING = "missing"
    FAILED = "failed"
    STOPPED = "stopped"
    EXITED = "exited"
    SIGNAL = "signal"
    CONTINUE = "continue"


class Message(NamedTuple):
    kind: Kind
    fields: tuple[str, ...] = ()
    descriptors: tuple[int, ...] = ()


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, close-on-exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, kind: Kind, *fields: str | int, descriptors: tuple[int, ...] = ()) -> None:
    """Send one message. Raises OSError if the other end is gone."""
    encoded = [os.fsencode(str(field)).replace(b"\0", b" ")[:FIELD_LIMIT] for field in fields]
    packet = b"\0".join([kind.value.encode(), *encoded])
    if descriptors:
        socket.send_fds(end, [packet], list(descriptors))
    else:
        end.send(packet, socket.MSG_NOSIGNAL)


def _receive(end: socket.socket) -> tuple[bytes, list[int], int]:
    return socket.recv_fds(end, MESSAGE_LIMIT, DESCRIPTOR_LIMIT)[:3]


def receive(end: socket.socket) -> Message | None:
    """The next message, or None at end of file. Received descriptors are close-on-exec."""
    try:
        packet, descriptors, flags = _receive(end)
    except ConnectionResetError:  # it ended before it had read all: told first, and what it said comes next
        packet, descriptors, flags = _receive(end)
    if not packet:
        return None
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        # The kernel had no room for the descriptors: EMFILE, by the look of it.
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    kind, *fields = os.fsdecode(packet).split("\0")
    return Message(Kind(kind), tuple(fields), tuple(descriptors))
