# SPDX-License-Identifier: GPL-3.0-or-later
"""The new namespaces, the maps of the user namespace, and who torbox runs as.

An unprivileged process may create a user namespace and map its own uid and gid into it, one each
(user_namespaces(7)); everything else torbox does rests on the capabilities it gains in there. The
uid inside is the same for every user of torbox, so that it tells nothing. /proc/PID/uid_map would
tell the one outside, so the program is in a second user namespace, whose map is the same for all.
"""

from __future__ import annotations

import errno
import os
import pwd
from collections.abc import Callable

from torbox import syscalls
from torbox.errors import SetupError, UsageError

UID_INSIDE = 1000
GID_INSIDE = 1000

_SHARE_STEP = "limit what the kernel counts by user"
_NAMESPACES_MOST = 1000  # of each kind; a browser has one or two for each tab

_NAMESPACES = (
    syscalls.CLONE_NEWUSER
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWCGROUP
)

_APPARMOR_SYSCTL = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
_CLONE_SYSCTL = "/proc/sys/kernel/unprivileged_userns_clone"
_LIMIT_SYSCTL = "/proc/sys/user/max_user_namespaces"


def enter_namespaces() -> None:
    """Move this process (for pid and time: its children) into new namespaces of every kind.

    The time namespace exists since Linux 5.6; whether one may be done without, `start_clocks_anew` finds.
    Raises SetupError with advice.
    """
    flags = _NAMESPACES
    has_time = os.path.exists("/proc/self/ns/time")
    if has_time:
        flags |= syscalls.CLONE_NEWTIME
    try:
        syscalls.unshare(flags)
    except OSError as error:
        raise SetupError(
            "create namespaces", error.errno or 0, "unshare", advice=unshare_advice(error.errno or 0)
        ) from error


def start_clocks_anew() -> None:
    """Let the sandbox's monotonic and boot clocks start near zero; time_namespaces(7). Raises SetupError.

    Only possible once the maps are written and before the first child is forked.
    """
    if not os.path.exists("/proc/self/timens_offsets"):
        advice = "Linux 5.6 and later have it (CONFIG_TIME_NS)."
        raise SetupError("set the clocks", 0, "this kernel has no time namespace", advice=advice)
    import time

    offsets = "".join(
        f"{name} {1 - int(time.clock_gettime(clock))} 0\n"
        for name, clock in (("monotonic", time.CLOCK_MONOTONIC), ("boottime", time.CLOCK_BOOTTIME))
    )
    try:
        with open("/proc/self/timens_offsets", "w") as file:
            file.write(offsets)
    except OSError as error:
        raise SetupError("set the clocks", error.errno or 0, "/proc/self/timens_offsets") from error


def enter_everybodys_map() -> None:
    """Move into a user namespace below this one, in which the maps in /proc tell nothing of the caller.

    A map is shown as seen from the namespace above, and that is torbox's own then: 1000 is 1000. The
    namespaces of every other kind stay the upper one's, in which nobody inside has a say. For a process
    without threads, with the new /proc mounted. Raises SetupError.
    """
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
    except OSError as error:
        number = error.errno or 0
        raise SetupError("hide the user's id", number, "unshare", advice=unshare_advice(number)) from error
    write_maps(os.getpid(), UID_INSIDE, GID_INSIDE)


def share_what_is_counted() -> None:
    """Of what the kernel counts by user, let this namespace and all below it have their share, and not all.

    Everything counts for the user outside as well: who takes all of his inotify instances (128 of them, as a
    rule) or namespaces keeps his other programs from having any. namespaces(7), inotify(7).

    Of namespaces of control groups there are none. Who has one can mount the hierarchy from where he is in
    it: the caller's own group, where this sandbox has none, and files there that are this user's. He could
    end the caller's other programs (cgroup.kill), take limits away, and leave groups behind. Nothing else
    keeps him from the mount. Raises SetupError.
    """
    wanted = {"cgroup_namespaces": 0}
    wanted |= {f"{kind}_namespaces": _NAMESPACES_MOST for kind in ("ipc", "mnt", "net", "pid", "user", "uts")}
    for name in ("instances", "watches"):
        of_all = _read_sysctl(f"/proc/sys/fs/inotify/max_user_{name}")
        if of_all.isdecimal():  # else this kernel has no inotify
            wanted[f"inotify_{name}"] = int(of_all) // 2
    for name, most in wanted.items():
        path = f"/proc/sys/user/max_{name}"
        try:
            with open(path, "r+") as file:
                file.write(f"{most}")
                file.seek(0)
                left = file.read().strip()
        except OSError as error:
            raise SetupError(_SHARE_STEP, error.errno or 0, path) from error
        if left != f"{most}":
            raise SetupError(_SHARE_STEP, 0, f"{path} is not what it was set to")


def write_maps(pid: int, uid: int, gid: int) -> None:
    """Map UID_INSIDE and GID_INSIDE of `pid`'s new user namespace to `uid` and `gid` out here.

    setgroups must be denied first, or an unprivileged gid_map is refused (CVE-2014-8989).
    """
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{UID_INSIDE} {uid} 1"),
        ("gid_map", f"{GID_INSIDE} {gid} 1"),
    ):
        try:
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write(text)
        except OSError as error:
            raise SetupError(
                "map the user", error.errno or 0, f"/proc/PID/{name}", advice=unshare_advice(error.errno or 0)
            ) from error


def unshare_advice(number: int, read: Callable[[str], str] | None = None) -> str:
    """What to do when the kernel refuses a user namespace with this errno."""
    read = read or _read_sysctl
    if read(_APPARMOR_SYSCTL) == "1":
        return (
            "Ubuntu's AppArmor keeps unprivileged programs from creating user namespaces; allow them with\n"
            "  sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
        )
    if read(_CLONE_SYSCTL) == "0":
        return (
            "This kernel keeps user namespaces from unprivileged users; allow them with\n"
            "  sudo sysctl kernel.unprivileged_userns_clone=1"
        )
    if number == errno.ENOSPC or read(_LIMIT_SYSCTL) == "0":
        return (
            "The limit of user namespaces is reached; raise it with\n"
            "  sudo sysctl user.max_user_namespaces=15000"
        )
    if number in (errno.EPERM, errno.EACCES):
        return (
            "Something keeps this process from creating user namespaces: the container or service it runs in"
            " (its seccomp filter or LSM must allow unshare and mount), or a chroot."
        )
    if number == errno.EINVAL:
        return "This kernel was built without one of the namespaces (user, net, pid, uts, ipc, cgroup)."
    return ""


def _read_sysctl(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def resolve_user(name: str | None, command: str = "torbox run") -> pwd.struct_passwd | None:
    """The user torbox must become before anything else, or None to stay who it is.

    Root is never kept: a file owned by root stays writable in the sandbox even without any
    capability (/proc/sys/kernel/core_pattern, for one), so torbox becomes the user named with
    --user or the one who called sudo, or says why it does not start; `command` is what advice names.
    """
    if os.geteuid() != 0:
        if name is not None and name not in (pwd.getpwuid(os.getuid()).pw_name, str(os.getuid())):
            raise UsageError(f"--user {name}: only root can run torbox as another user")
        return None
    wanted = name or os.environ.get("SUDO_UID") or os.environ.get("DOAS_USER")
    if not wanted:
        raise SetupError(
            "leave root",
            0,
            "torbox does not run programs as root",
            advice=f"Run it as an ordinary user, or name one: {command} --user NAME …",
        )
    try:
        user = pwd.getpwuid(int(wanted)) if wanted.isdecimal() else pwd.getpwnam(wanted)
    except (KeyError, OverflowError):
        raise UsageError(f"--user {wanted}: there is no such user on this machine") from None
    if user.pw_uid == 0:
        raise UsageError(f"--user {wanted}: that is root; name an ordinary user")
    return user


def become(user: pwd.struct_passwd) -> None:
    """Give up root for good: groups, gid and uid of `user`, and an environment that says so."""
    import prctl

    try:
        os.setgroups([])  # a group is a right to files, and the program needs none but its own
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    except OSError as error:
        raise SetupError("leave root", error.errno or 0, f"become {user.pw_name}") from error
    if os.getresuid() != (user.pw_uid,) * 3 or os.getresgid() != (user.pw_gid,) * 3:
        raise SetupError("leave root", errno.EPERM, f"become {user.pw_name}")
    # A change of uid makes a process undumpable and its /proc files root's: the maps could not be written.
    prctl.set_dumpable(True)
    os.environ.update(HOME=user.pw_dir, USER=user.pw_name, LOGNAME=user.pw_name)
    for stale in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        os.environ.pop(stale, None)
