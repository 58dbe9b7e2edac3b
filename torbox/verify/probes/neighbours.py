# SPDX-License-Identifier: GPL-3.0-or-later
"""Other programs of this machine, and what their users left open: nothing leads to them."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator

from torbox.verify.probes.frame import Facts, call, probe, text_of

ENVIRONMENT = {"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "TZ", "TERM", "PWD", "SHLVL", "LC_CTYPE"}


@probe("sockets", "Unix sockets of this machine: abstract and by path")
def unix_sockets(facts: Facts) -> Iterator[str]:
    shared = facts["shared_sockets"]
    for name in [f"\0{facts['abstract']}", *facts["sockets"]]:
        if name in shared:
            continue
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            try:
                sock.connect(name)
            except OSError:
                continue
            yield f"connected to {name.replace(chr(0), '@')}"
    for line in text_of("/proc/net/unix").splitlines():
        if facts["abstract"] in line:
            yield "/proc/net/unix shows the host's"


@probe("descriptors", "nothing open but the standard streams, and those lead nowhere else")
def descriptors(facts: Facts) -> Iterator[str]:
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            leads_to = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue  # the listing's own
        if number > 2:
            yield f"descriptor {number}: {leads_to}"
        elif leads_to.startswith("socket:"):
            yield f"descriptor {number} is a socket"
        elif number < 2 and facts["streams_are_files"] and not leads_to.startswith("pipe:"):
            yield f"descriptor {number} is the caller's own"


@probe("environment", "no variable of the caller's that no profile passes on")
def environment(facts: Facts) -> Iterator[str]:
    allowed = ENVIRONMENT | set(facts["variables"])
    yield from (f"variable {name}" for name in os.environ if name not in allowed)
    for process in ("self", "1"):
        try:
            told = text_of(f"/proc/{process}/environ")
        except OSError:
            continue
        if facts["nonce"] in told:
            yield f"/proc/{process}/environ shows the caller's"
    umask = os.umask(0o077)
    os.umask(umask)
    if umask == facts["umask"]:
        yield "the caller's umask"


@probe("processes", "none of this machine's to be seen, signalled or traced")
def processes(facts: Facts) -> Iterator[str]:
    numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    for number in numbers:
        try:
            if facts["nonce"] in text_of(f"/proc/{number}/cmdline") and number != os.getpid():
                yield f"process {number} is the host's"
        except OSError:
            continue
    if len(numbers) > facts["processes_at_most"]:
        yield f"{len(numbers)} processes"
    for path in ("/proc/1/root", "/proc/1/cwd", "/proc/1/exe", "/proc/1/fd", "/proc/1/mem", "/proc/1/maps"):
        try:
            if os.path.islink(path):
                os.readlink(path)
            elif os.path.isdir(path):
                os.listdir(path)
            else:
                open(path, "rb").close()
        except OSError:
            continue
        yield f"{path} can be read"
    for name in ("cmdline", "comm"):
        try:
            told = text_of(f"/proc/1/{name}").strip("\0\n")
        except OSError:
            continue
        if told not in ("", "init"):
            yield f"/proc/1/{name} tells how this sandbox was started"
    if call("ptrace", 0x4206, 1, 0, 0) == 0:  # PTRACE_SEIZE, which stops nobody
        yield "pid 1 can be traced"
    try:
        os.kill(facts["pid"], 0)
    except OSError:
        pass
    else:
        if facts["pid"] not in numbers:
            yield f"process {facts['pid']} of the host can be signalled"


@probe("watches", "which of the machine's programs others start")
def watches(facts: Facts) -> Iterator[str]:
    watcher = call("inotify_init1", 0o4000)  # IN_NONBLOCK
    if call("inotify_add_watch", watcher, b"/usr/bin\0", 0x20) > 0:  # IN_OPEN
        yield "openings in /usr/bin can be watched"
    os.close(watcher)
    directory = os.open("/usr/bin", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.fcntl(directory, fcntl.F_NOTIFY, 0)  # no event at all
    except OSError:
        pass
    else:
        yield "reading in /usr/bin can be watched"
    os.close(directory)


@probe("memory", "System V and POSIX shared memory of this machine")
def shared_memory(facts: Facts) -> Iterator[str]:
    if facts["shm_id"] is not None and call("shmat", facts["shm_id"], 0, 0o10000) > 0:  # SHM_RDONLY
        yield "a System V segment of the host"
    for name in os.listdir("/dev/shm"):
        if facts["nonce"] in name:
            yield f"/dev/shm/{name}"


@probe("keys", "no key of the session's keyring")
def keys(facts: Facts) -> Iterator[str]:
    found = call("keyctl", 10, -3, b"user\0", facts["nonce"].encode() + b"\0", 0)  # SEARCH the session's
    if found >= 0:
        yield "the caller's key was found"
    if call("keyctl", 6, -3, None, 0) >= 0:  # DESCRIBE
        yield "keyctl works"
    for path in ("/proc/keys", "/proc/key-users"):
        try:
            if text_of(path).strip():
                yield f"{path} tells of keys"
        except OSError:
            continue
