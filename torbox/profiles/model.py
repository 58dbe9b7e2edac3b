# SPDX-License-Identifier: GPL-3.0-or-later
"""What a profile can say, as frozen values: every key is one field, and the field is all there is to it.

A field's metadata holds the kind of value, what the key does and an example; loading, checking,
`torbox profile show` and docs/profiles.md follow from it. A key that the sandbox does not honour
does not exist here: better an unknown key than a protection that is only written down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from torbox.profiles.checks import (
    check_address,
    check_home_file,
    check_home_name,
    check_host_entry,
    check_host_name,
    check_memory,
    check_shared_path,
    check_size,
    check_size_if_any,
    check_upstream,
    check_user,
    check_variable,
)
from torbox.profiles.desktop import Desktop
from torbox.profiles.kinds import Choice, Kind, OneOrMore, Switch, Table, Text, Texts, Whole, key
from torbox.profiles.place import Place

Origin = tuple[str, str]  # ("net.dns", "") for a key, ("env.set", "EDITOR") for a part of its value

NET_MTU = 65520  # bytes; the largest multiple of 8 below 65535 less headers, and what peers use
QUEUES_MAX = 8  # a worker is some 15 MB, and one core's
PROCESSORS_MAX = 4096  # more than Linux's largest CONFIG_NR_CPUS for these machines has use for


@dataclass(frozen=True)
class Net:
    """The network as the program sees it, and where its connections go."""

    upstream: str = key(
        Text("a URL", check_upstream),
        "Where connections go, as a URL: `tor`, `tor://HOST:PORT`, `tor+unix:PATH`, "
        "`socks5://[USER:PASSWORD@]HOST:PORT`, `direct` or `block`. Empty: the first Tor that is found, or "
        "one that torbox starts. `--upstream` goes before it.",
        default="",
        example='"tor://127.0.0.1:9050"',
    )
    routing: bool = key(
        Switch(),
        "With the upstream `direct`: whether anything leaves. Connections then go out from this machine's "
        "own address, which hides nothing, to public addresses alone; names are resolved by this machine. "
        "With any other upstream it has no meaning. `--enable-routing` switches it on.",
        default=False,
        example="true",
    )
    host_loopback: bool = key(
        Switch(),
        "With the upstream `direct`: whether the gateway's addresses, 10.0.2.2 and fd00::2, lead to this "
        "machine's own 127.0.0.1 and ::1, on every port but 53. Whatever listens there, the program can talk "
        "to. With any other upstream it has no meaning. `--host-loopback` switches it on.",
        default=False,
        example="true",
    )
    dns: str = key(
        Choice("names", "tor", "off"),
        "How names are resolved inside. `names`: each name gets an address that stands for it, and the "
        "connection goes out by name; nothing is asked of anybody, and .onion names work. `tor`: names are "
        "resolved through Tor. `off`: no name but those of `hosts` is known. The upstream `direct` takes no "
        "names: with it, `names` and `tor` both mean that this machine resolves them.",
        default="names",
        example='"tor"',
    )
    hosts: Mapping[str, tuple[str, ...]] = key(
        Table(Text("a host name", check_host_entry), OneOrMore(Text("an address", check_address))),
        "Names with addresses of their own, looked up before everything else.",
        default={},
        example='{ "printer.example" = "192.0.2.7", "both.example" = ["192.0.2.8", "2001:db8::8"] }',
    )
    mtu: int = key(
        Whole(1280, NET_MTU, "bytes"),
        "The largest packet on the sandbox's own interface, in bytes. Large is fast, and nobody outside "
        "sees it; a smaller one is for programs that must meet an ordinary network's.",
        default=NET_MTU,
        example="1500",
    )
    queues: int = key(
        Whole(1, QUEUES_MAX, "queues"),
        "How many processes serve the sandbox's interface, each with a queue of its own; connections are "
        "spread over them. More than one help many busy connections on a machine with processors to spare, "
        "never a single one. Every limit on connections, memory and datagrams holds for each of them, and "
        "with more than one a program's UDP socket may be seen under several ports outside.",
        default=1,
        example="4",
    )
    ipv6: bool = key(
        Switch(),
        "Whether the program has IPv6 inside. Without, it has no IPv6 address and names have none either.",
        default=True,
        example="false",
    )
    spin: bool = key(
        Switch(),
        "Whether the network stack waits actively for 50 µs after a small message, which takes 40 µs off "
        "each answer. It costs processor time while small messages come and go, none when nothing "
        "does, and is never done on battery.",
        default=True,
        example="false",
    )


@dataclass(frozen=True)
class Identity:
    """Who the program finds itself to be. The values are the same for everybody, so they tell nothing."""

    hostname: str = key(
        Text("a host name", check_host_name),
        "The host name inside. The default is the one Whonix gives all its users.",
        default="host",
        example='"workstation"',
    )
    user: str = key(
        Text("a user name", check_user),
        "The user's name inside; the home directory is called after it.",
        default="user",
        example='"alice"',
    )
    processors: int = key(
        Whole(0, PROCESSORS_MAX, "processors"),
        "How many of this machine's processors the program may use, and nproc(1) and many programs count. "
        "0: all of them, so that it is not slowed down. /proc/cpuinfo shows all of them in any case, and a "
        "program may take itself more.",
        default=0,
        example="2",
    )


@dataclass(frozen=True)
class Home:
    """The home directory inside."""

    mode: str = key(
        Choice("fake", "persist", "overlay", "host"),
        "`fake`: a new and empty home directory in memory, gone when the program ends. `persist`: one that "
        "is kept, and empty at first, in `~/.local/share/torbox/homes/NAME` (`$XDG_DATA_HOME`). `overlay`: "
        "your own, where the program can read everything, but what it changes is not changed outside: it is "
        "gone when the program ends; files of a group other than your own cannot be changed. `host`: your "
        "own; the program can change everything in it, and so what is run outside. torbox's own directories "
        "are empty in all of them. `torbox home list` tells what is kept, which cannot be on a file system "
        "that overlayfs does not write to: NFS, or another overlay.",
        default="fake",
        example='"persist"',
    )
    name: str = key(
        Text("a name", check_home_name),
        "What the kept home is called. Empty: as the profile is. One sandbox uses it at a time; profiles "
        "that say the same name take turns.",
        default="",
        example='"work"',
    )
    keep_changes: bool = key(
        Switch(),
        "With the mode `overlay`: whether what the program changes is kept for its next start, beside the "
        "kept homes and apart from your own. With any other mode it has no meaning.",
        default=False,
        example="true",
    )
    files: Mapping[str, str] = key(
        Table(Text("a path", check_home_file), Text()),
        "Files that are in the home from the start: a path relative to it, and the text. One that begins "
        "with `#!` is executable; scripts in `.local/bin` go before programs of their name. In a kept home "
        "and in an overlay they are made where nothing has their name; with `host`, not at all.",
        default={},
        example='{ ".config/example/settings.ini" = "colour = blue\\n" }',
    )


@dataclass(frozen=True)
class Env:
    """The environment. Of the caller's, only what is named here gets in."""

    variables: Mapping[str, str] = key(
        Table(Text("a variable", check_variable), Text()),
        "Variables to set.",
        default={},
        example='{ EDITOR = "vi" }',
        name="set",
    )
    passed: tuple[str, ...] = key(
        Texts(Text("a variable", check_variable), appends=True),
        "Names of variables that the program inherits from the caller, where they are set. "
        "Each tells the program something about the host.",
        default=(),
        example='["COLORTERM"]',
        name="pass",
    )


@dataclass(frozen=True)
class Mounts:
    """Files and directories of the host that the program sees, at the same place inside."""

    read_only: tuple[str, ...] = key(
        Texts(Text("a path", check_shared_path), appends=True),
        "Absolute paths, or paths in the home directory that begin with ~/ and appear in the home inside. "
        "The program can read them. Unix sockets among them can be connected to, whoever may write. No "
        "symlink may lead there that a program inside could have made, which are all those in directories "
        "of yours but the home directory itself. Read-only below a read-write path is read-only.",
        default=(),
        example='["/srv/music", "~/Books"]',
    )
    read_write: tuple[str, ...] = key(
        Texts(Text("a path", check_shared_path), appends=True),
        "The same, and the program can change them.",
        default=(),
        example='["~/Downloads"]',
    )
    sizes: Mapping[str, str] = key(
        Table(Text("a place in memory", check_memory), Text("a size", check_size)),
        "How much the directories that are in memory may hold: `~` (the fake home, 20% of this machine's "
        "memory if nothing is said), `/tmp` (15%), `/dev/shm` (10%), `/var/tmp` (4%) and `/run` (1%). "
        "Together that is half of it, so that a program that fills them all leaves the machine alive.",
        default={},
        example='{ "~" = "8g", "/tmp" = "50%" }',
    )
    cover_proc: bool = key(
        Switch(),
        "Whether the files of /proc that tell this machine from others (its boot id, boot line, disks, keys, "
        "interrupts and their like) are covered. A sandbox inside this one, as bubblewrap and podman make "
        "them, can mount a /proc of its own only if they are not.",
        default=True,
        example="false",
    )


@dataclass(frozen=True)
class Limits:
    """How much of the machine the sandbox may use: by a control group, else by rlimits; `-v` says which."""

    memory: str = key(
        Text("a size", check_size_if_any),
        "Memory for all programs together, files in memory included, in a control group, which does not "
        "swap; without one, for the private memory of each process alone, with a warning. A number of bytes, "
        "with K, M, G or T, or % of this machine's memory, or of a container's that has less. Empty: for the "
        "private memory of each process, "
        "75% of the machine's, but not less than 4G.",
        default="",
        example='"2G"',
    )
    processes: int = key(
        Whole(8, 1 << 22, "processes"),
        "Processes and threads of the sandbox at one time. A browser with a hundred tabs has some 2000.",
        default=4096,
        example="500",
    )
    cpu: int = key(
        Whole(0, 100_000, "percent"),
        "Processor time, in percent of one processor: 150 is one and a half. Only a control group can limit "
        "it: where there is none, nothing starts without `--allow-missing cpu-limit`. 0: no limit.",
        default=0,
        example="150",
    )
    open_files: int = key(
        Whole(64, 1 << 30, "files"),
        "Open files of each process, and no more than the caller may have.",
        default=16384,
        example="1024",
    )
    file_size: str = key(
        Text("a size", check_size_if_any),
        "The largest file that a program may write, also among what is shared. Empty: no limit.",
        default="",
        example='"4G"',
    )


@dataclass(frozen=True)
class Profile:
    """A profile with all that it inherits."""

    description: str = key(
        Text(), "One line for `torbox profile list`.", default="", example='"Firefox with a home of its own"'
    )
    extends: str = key(
        Text(),
        "The profile whose values hold where this one says nothing: a name, or a path with a slash, relative "
        "to this file. A profile may extend its own name: that is the next of this name on the search path.",
        default="",
        example='"default"',
    )
    command: tuple[str, ...] = key(
        Texts(Text(), appends=False),
        "What is run when the command line names no program.",
        default=(),
        example='["firefox", "--private-window"]',
    )
    refuse: str = key(
        Text(),
        "Why nothing is started by this profile, nor by one that extends it and does not empty this: for "
        "programs that a sandbox cannot make safe.",
        default="",
        example='"It tells its address to everybody, whatever carries that."',
    )
    # Tables, each documented by the docstring of its class.
    net: Net = field(default_factory=Net, metadata={"section": Net})
    identity: Identity = field(default_factory=Identity, metadata={"section": Identity})
    home: Home = field(default_factory=Home, metadata={"section": Home})
    env: Env = field(default_factory=Env, metadata={"section": Env})
    mounts: Mounts = field(default_factory=Mounts, metadata={"section": Mounts})
    desktop: Desktop = field(default_factory=Desktop, metadata={"section": Desktop})
    limits: Limits = field(default_factory=Limits, metadata={"section": Limits})

    # Not keys: where it all came from.
    name: str = ""
    files: tuple[Path, ...] = ()  # the profile's own first, then those it extends
    origins: Mapping[Origin, Place] = field(default_factory=dict)  # of what any file says

    def where(self, path: str, part: str = "") -> str:
        """How a complaint about a key begins, as in "browser.toml:12: net.upstream".

        `part` is an item of a list or a key of a table: files of the chain may each have given some.
        """
        place = self.origins.get((path, part)) or self.origins.get((path, ""))
        return f"{place.spot if place else self.name}: {path}"


class Key(NamedTuple):
    """A key of the profile, found by its dotted path ("net.dns")."""

    path: str
    field: str
    section: str  # "" for the keys at the top
    kind: Kind
    doc: str
    default: Any
    example: str


def _keys_of(model: type[Any], name: str) -> Iterator[Key]:
    for each in fields(model):
        if "kind" in each.metadata:
            called = each.metadata["name"] or each.name
            default = each.default if each.default is not MISSING else {}
            yield Key(
                f"{name}.{called}" if name else called,
                each.name,
                name,
                each.metadata["kind"],
                each.metadata["doc"],
                default,
                each.metadata["example"],
            )


SECTIONS: dict[str, type[Any]] = {
    each.name: each.metadata["section"] for each in fields(Profile) if "section" in each.metadata
}
KEYS: dict[str, Key] = {each.path: each for each in _keys_of(Profile, "")}
for _name, _model in SECTIONS.items():
    KEYS.update((each.path, each) for each in _keys_of(_model, _name))


def build(values: Mapping[str, Any], **origin: Any) -> Profile:
    """A profile of checked values by dotted path; keys that are not given have their defaults."""
    kwargs: dict[str, dict[str, Any]] = {name: {} for name in ("", *SECTIONS)}
    for path, value in values.items():
        kwargs[KEYS[path].section][KEYS[path].field] = value
    sections = {name: model(**kwargs[name]) for name, model in SECTIONS.items()}
    return Profile(**kwargs[""], **sections, **origin)


def value_of(profile: Profile, path: str) -> Any:
    """A profile's value by the key's dotted path."""
    found = KEYS[path]
    return getattr(getattr(profile, found.section) if found.section else profile, found.field)
