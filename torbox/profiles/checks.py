# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a value of a profile, in words that go behind it; "" if nothing is.

Each looks at the text alone, never at the machine: what is there is found when the plan is made.
"""

from __future__ import annotations

import re

# What the sandbox has in memory: system.SIZES. Here in words, since profiles know nothing of mounts.
MEMORY = ("~", "/tmp", "/dev/shm", "/var/tmp", "/run")
# Patterns are compiled when a value is checked by them, which few profiles have.
SIZE = r"[1-9][0-9]{0,5}[kmgKMG]|[1-9][0-9]?%|100%"  # as tmpfs(5) has them
HOST_NAME = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*"
HOST_ENTRY = r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*"
USER_NAME = r"[a-z_][a-z0-9_-]{0,31}"  # useradd(8)
HOME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"  # a directory of torbox's own
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"  # POSIX.1 §8.1, with lower case
PATH_MAX = 4096  # bytes, linux/limits.h
_RUN_USER = r"/run/user/[^/]+"  # XDG_RUNTIME_DIR, pam_systemd(8)
UPSTREAM = r"[a-z][a-z0-9+.-]*(:[!-~]+)?"  # RFC 3986 §3.1
# Shared as a whole these, or what is above them, would bring the host's sockets, devices or processes inside.
NEVER_WHOLE = ("/dev", "/etc", "/proc", "/run", "/run/user/UID", "/sys", "/tmp", "/var/run", "/var/tmp")
NEVER_BELOW = ("/dev", "/proc", "/sys")
# The sandbox's own: with the host's in their place, names would be resolved by the host's daemons.
NEVER_REPLACED = frozenset(
    f"/etc/{name}"
    for name in ("group", "hostname", "hosts", "machine-id", "nsswitch.conf", "passwd", "resolv.conf")
)


def check_upstream(text: str) -> str:
    return "" if not text or re.fullmatch(UPSTREAM, text) else "is not a URL such as tor://127.0.0.1:9050"


def check_host_entry(text: str) -> str:
    return "" if re.fullmatch(HOST_ENTRY, text) else "is not a host name in lower case"


def check_address(text: str) -> str:
    from socket import AF_INET, AF_INET6, inet_pton  # 5 ms that only a profile with hosts costs

    try:
        inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, UnicodeError):
        return "is not an IPv4 or IPv6 address"
    return ""


def check_host_name(text: str) -> str:
    if re.fullmatch(HOST_NAME, text) and len(text) <= 64:  # __NEW_UTS_LEN
        return ""
    return "is not a host name of at most 64 letters, digits, hyphens and dots"


def check_user(text: str) -> str:
    if text == "root":
        return "is the name of user 0, which the program is not"
    return "" if re.fullmatch(USER_NAME, text) else "is not a user name (lower case letters, digits, _ and -)"


def check_variable(text: str) -> str:
    return "" if re.fullmatch(VARIABLE, text) else "is not the name of an environment variable"


def check_home_name(text: str) -> str:
    return "" if not text or re.fullmatch(HOME, text) else why_no_home_name()


def why_no_home_name() -> str:
    return "is not 1 to 64 letters, digits, dots, dashes or underscores that begin with neither dot nor dash"


def check_home_file(text: str) -> str:
    if text.startswith(("/", "~")):
        return "is not a path relative to the home directory"
    if len(text) >= PATH_MAX:
        return "is longer than a path can be"
    if any(part in ("", ".", "..") for part in text.split("/")):
        return "has an empty part, '.' or '..' in it"
    return ""


def check_memory(text: str) -> str:
    return "" if text in MEMORY else f"is not one of {', '.join(MEMORY)}"


def check_size(text: str) -> str:
    if re.fullmatch(SIZE, text):
        return ""
    return "is not a size such as 512M, 4G or 25% (of this machine's memory)"


def check_size_if_any(text: str) -> str:
    return check_size(text) if text else ""


def check_shared_path(text: str) -> str:
    if not text.startswith(("/", "~/")):
        return "is not an absolute path, nor one that begins with ~/"
    if len(text) >= PATH_MAX:
        return "is longer than a path can be"
    parts = text.rstrip("/").split("/")[1:]
    if any(part in ("", ".", "..") for part in parts):
        return "has an empty part, '.' or '..' in it"
    path = "/" + "/".join(parts)
    if text.startswith("/") or not parts:
        return why_never_shared(path)
    return ""


def why_never_shared(path: str) -> str:
    """What is wrong with sharing this absolute path, be it the host's or where it would appear inside."""
    if path == "/var/run" or path.startswith("/var/run/"):
        path = path.removeprefix("/var")  # the same, on every system with a /run
    user = re.fullmatch(_RUN_USER, path)
    if path == "/" or user or any(f"{never}/".startswith(f"{path}/") for never in NEVER_WHOLE):
        return "is never shared as a whole: name what is needed of it"
    if path in NEVER_REPLACED or path.startswith(tuple(f"{above}/" for above in NEVER_BELOW)):
        return "is not shared: the sandbox has its own"
    return ""
