# SPDX-License-Identifier: GPL-3.0-or-later
"""What is laid out on this machine while the probes run: each thing is to be had by any program of the
user's, and by none in the sandbox.

    listeners    TCP and UDP on the loopback and on every own address; Unix sockets, abstract and by path
    holdings     a process, a System V segment, a file in /dev/shm, in /tmp and in /var/tmp, a key
    the start    a variable and two open descriptors, which whoever starts torbox has

Everything carries one random word, so nothing else can be taken for it, and is gone at the end.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torbox import this_machine
from torbox.syscalls import add_key, unlink_key

ADDRESSES_MOST = 16  # own addresses that are tried; a machine with containers has hundreds
GATEWAYS = ("10.0.2.2", "fd00::2")
# Ways to write 127.0.0.1 that a stack might take for somebody else: mapped, NAT64, 6to4, any.
DISGUISED = ("::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "0.0.0.0", "169.254.169.254")
DISGUISED_V6 = ("::",)
# Unix sockets that desktops and servers have; those that are there are tried as well.
WELL_KNOWN = (
    "/run/dbus/system_bus_socket",
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/snapd.socket",
    "/run/systemd/private",
    "/run/systemd/journal/socket",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/avahi-daemon/socket",
    "/run/nscd/socket",
    "/tmp/.X11-unix/X0",
    "/tmp/.X11-unix/X1",
)
OF_THE_USER = ("bus", "wayland-0", "pipewire-0", "pulse/native", "gnupg/S.gpg-agent", "keyring/ssh")
_IPC_PRIVATE, _IPC_CREAT, _IPC_RMID = 0, 0o1000, 0  # linux/ipc.h


@dataclass
class Bait:
    """`facts` is for the probes, `environment` and `descriptors` for who starts the sandbox.

    `heard` holds, once the probes have run, which datagrams came.
    """

    nonce: str = field(default_factory=lambda: secrets.token_hex(16))
    facts: dict[str, object] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    descriptors: list[int] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Read what came by UDP."""
        for sock, address in self._datagrams:
            with contextlib.suppress(BlockingIOError):
                while True:
                    data, sender = sock.recvfrom(64)
                    if data == self.nonce.encode() and is_near(sender[0]):
                        self.heard.append(f"a datagram came to {address} from {sender[0]}")

    _datagrams: list[tuple[socket.socket, str]] = field(default_factory=list)


@contextlib.contextmanager
def laid_out(environ: Mapping[str, str]) -> Iterator[Bait]:
    """Lay everything out, and take it away again. OSError if this machine does not let us."""
    bait = Bait()
    with contextlib.ExitStack() as stack:
        _listen(stack, bait)
        _unix_sockets(stack, bait, environ)
        _hold(stack, bait)
        far = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        file = stack.enter_context(tempfile.TemporaryFile(prefix="torbox-verify-"))
        bait.descriptors += [far.fileno(), file.fileno()]
        bait.environment["TORBOX_VERIFY_BAIT"] = bait.nonce
        bait.facts["nonce"] = bait.nonce
        yield bait


def _listen(stack: contextlib.ExitStack, bait: Bait) -> None:
    tcp: list[tuple[str, int]] = []
    udp: list[tuple[str, int]] = []
    own = [each for each in this_machine.addresses() if not each.startswith(("127.", "fe80"))]
    for address in ("127.0.0.1", "::1", *(each for each in own[:ADDRESSES_MOST] if each != "::1")):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            listener = stack.enter_context(socket.create_server((address, 0), family=family))
            datagrams = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            datagrams.bind((address, 0))
        except OSError:
            continue  # an address that has just gone, or that is not ours to use
        datagrams.setblocking(False)
        bait._datagrams.append((datagrams, address))
        _serve(listener, bait.nonce.encode())
        tcp_port, udp_port = listener.getsockname()[1], datagrams.getsockname()[1]
        others = DISGUISED if address == "127.0.0.1" else DISGUISED_V6 if address == "::1" else ()
        gateway = GATEWAYS[:1] if address == "127.0.0.1" else GATEWAYS[1:] if address == "::1" else ()
        for each in (address, *others, *gateway):
            tcp.append((each, tcp_port))
            udp.append((each, udp_port))
    bait.facts |= {"tcp": tcp, "udp": udp}


def _serve(listener: socket.socket, word: bytes) -> None:
    """Say the word to whoever connects from near, until the listener is closed."""

    def work() -> None:
        while True:
            try:
                peer, sender = listener.accept()
            except OSError:
                return
            with peer, contextlib.suppress(OSError):
                # A Unix socket's peer is on this machine; what it gives for one is its name.
                if listener.family == socket.AF_UNIX or is_near(sender[0]):
                    peer.sendall(word)

    threading.Thread(target=work, daemon=True).start()


def is_near(sender: str) -> bool:
    """Whether what comes from this address shows a way round the upstream.

    Tor's exit connects to a public address of this machine's as anybody on the Internet may, from a public
    one of its own. What did not go through it comes from one of this machine's, or from a private network.
    What cannot be told counts as near: a leak too many is looked into, one that is not told is not.
    """
    try:
        address = ipaddress.ip_address(sender)
        own = {ipaddress.ip_address(each) for each in this_machine.addresses()}
    except (OSError, ValueError):
        return True
    return address in own or not address.is_global


def _unix_sockets(stack: contextlib.ExitStack, bait: Bait, environ: Mapping[str, str]) -> None:
    abstract = f"torbox-verify-{bait.nonce}"
    directory, lasting = (
        stack.enter_context(tempfile.TemporaryDirectory(prefix="torbox-verify-", dir=each))
        for each in (None, "/var/tmp")
    )
    path = f"{directory}/socket"
    for name in (f"\0{abstract}", path):
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listener.bind(name)
        listener.listen()
        _serve(listener, bait.nonce.encode())
    runtime = environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    known = [*WELL_KNOWN, *(f"{runtime}/{name}" for name in OF_THE_USER), environ.get("SSH_AUTH_SOCK", "")]
    bait.facts |= {
        "abstract": abstract,
        "sockets": [path, *(each for each in known if each and os.path.exists(each))],
        "files": [directory, lasting],
    }


def _hold(stack: contextlib.ExitStack, bait: Bait) -> None:
    sleeper = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()", bait.nonce],
            stdin=subprocess.PIPE,
        )
    )
    descriptor, _ = tempfile.mkstemp(prefix=f"torbox-verify-{bait.nonce}-", dir="/dev/shm")
    stack.callback(os.unlink, os.readlink(f"/proc/self/fd/{descriptor}"))
    os.close(descriptor)
    libc = ctypes.CDLL(None, use_errno=True)
    segment = libc.shmget(_IPC_PRIVATE, 4096, _IPC_CREAT | 0o600)
    if segment >= 0:
        stack.callback(libc.shmctl, segment, _IPC_RMID, None)
    with contextlib.suppress(OSError):  # this machine has no keys, or no room for one more
        key = add_key(bait.nonce)
        stack.callback(unlink_key, key)
    bait.facts |= {"pid": sleeper.pid, "shm_id": segment if segment >= 0 else None}
