# SPDX-License-Identifier: GPL-3.0-or-later
"""The table [desktop]: what of the user's session a program may use, and what that exposes.

Each of these is a way out of the room for something, so each has a sentence (`EXPOSES`) that says for
what: the documentation of its key ends with it, and `exposures` gives those of a profile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torbox.profiles.kinds import Choice, Switch, Text, Texts, key

# A well-known bus name, D-Bus Specification, "Bus names"; xdg-dbus-proxy(1) takes ".*" at its end.
_BUS_NAME = r"(?=.{1,255}$)[A-Za-z_-][A-Za-z0-9_-]*(\.[A-Za-z_-][A-Za-z0-9_-]*)+(\.\*)?"
_CALL = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+(\.\*)?(@/[A-Za-z0-9_/]*\*?)?"

# Who answers by starting programs outside of the sandbox, or opening pages there, past Tor.
_NEVER = (
    ("org.freedesktop.systemd1", "systemd, which starts programs outside"),
    ("org.freedesktop.Flatpak", "Flatpak, which starts programs outside"),
    ("org.freedesktop.impl.portal", "portals' helpers, which start programs outside"),
    ("org.freedesktop.portal", "portals, which open links and files with programs outside"),
    ("org.freedesktop.Application", "programs outside, which would open what they are told"),
    ("org.freedesktop.DBus", "the bus itself, of which every program has what it needs already"),
    ("org.freedesktop.secrets", "the keyring, whose passwords tell who you are"),
    ("org.gnome.keyring", "the keyring, whose passwords tell who you are"),
    ("org.kde.kwalletd5", "the wallet, whose passwords tell who you are"),
    ("org.kde.kwalletd6", "the wallet, whose passwords tell who you are"),
    ("org.gnome.Shell", "the desktop itself, which starts programs and takes screenshots"),
    ("org.gnome.Terminal", "a terminal outside, which starts programs"),
    ("org.kde.klauncher5", "a launcher of programs outside"),
    ("org.kde.krunner", "a launcher of programs outside"),
    ("org.kde.plasmashell", "the desktop itself, which starts programs"),
    ("org.kde.KWin", "the desktop itself, which runs scripts and takes screenshots"),
    ("org.mozilla", "a Firefox or Thunderbird outside, which would open pages past Tor"),
    ("org.chromium", "a Chromium outside, which would open pages past Tor"),
    ("ca.desrt.dconf", "the desktop's settings, some of which are commands"),
    ("org.xfce.Xfconf", "the desktop's settings, some of which are commands"),
    ("org.gtk.vfs", "GVfs, which fetches from web and file servers past Tor"),
    ("org.kde.KIOFuse", "KIO, which fetches from web and file servers past Tor"),
    ("org.kde.kiod5", "KIO, which fetches from web and file servers past Tor"),
    ("org.kde.kiod6", "KIO, which fetches from web and file servers past Tor"),
    ("org.gnome.OnlineAccounts", "your accounts, whose passwords tell who you are"),
    ("org.gnome.evolution.dataserver", "your mail and calendars, which it fetches past Tor"),
    ("org.kde.kdeconnect", "KDE Connect, which reaches your telephone past Tor"),
    ("org.gnome.Mutter", "the desktop itself, which types into windows and takes screenshots"),
    ("org.gnome.SessionManager", "the session, which starts programs outside"),
    ("org.Cinnamon", "the desktop itself, which runs scripts"),
    ("org.awesomewm", "the desktop itself, which runs scripts"),
    ("org.kde.kglobalaccel", "the desktop's shortcuts, some of which start programs"),
    ("org.kde.klauncher6", "a launcher of programs outside"),
    ("org.kde.KLauncher", "a launcher of programs outside"),
    ("org.freedesktop.FileManager1", "a file manager outside, which would open what it is told"),
    ("com.google", "a Chrome outside, which would open pages past Tor"),
    ("com.brave", "a Brave outside, which would open pages past Tor"),
)
# Whose names a program may take, and single methods of which it may call.
_PLAYERS = "org.mpris.MediaPlayer2"
_OPENS = "are players outside, which would fetch what they are told past Tor"

EXPOSES = {
    "x11 untrusted": (
        "X11, untrusted: the program opens windows, and gets no picture, key, title or clipboard of others'; "
        "copy and paste work within the sandbox alone; it sees where other windows and the pointer are and "
        "your X resources, can take the focus and the pointer, and can fill the screen with what looks like "
        "something else; one such sandbox at a time may use an X server."
    ),
    "x11 trusted": (
        "X11, trusted: the program can read every key you type and all that is on your screen, and type "
        "into any window, a terminal outside too."
    ),
    "wayland": (
        "Wayland: the program opens windows and has the clipboard while one has the focus; some compositors "
        "(sway and others of wlroots) let every program take screenshots and read the clipboard."
    ),
    "sound play": (
        "Sound: the program can play, and sees your outputs' names, which tell your hardware, of some its "
        "address."
    ),
    "sound record": (
        "Sound and microphones: the program can listen to the session's microphone at any time, or, if it "
        "has none, to what other programs play; and it sees your inputs' and outputs' names."
    ),
    "pipewire": (
        "PipeWire, unfiltered: the program can hear microphones, see cameras and shared screens, and "
        "rewire other programs' streams."
    ),
    "gpu": (
        "GPU: the program talks to the kernel's graphics driver, a large surface, and sees the GPU's model."
    ),
    "dbus": "D-Bus: the program talks to these on your session bus, as you: {names}.",
}


def why_never(name: str) -> str:
    """What is wrong with letting a program talk to this name, or to all below it (".*"); "" if nothing."""
    below = name.removesuffix(".*")
    for never, what in _NEVER:
        if below == never or below.startswith(f"{never}.") or never.startswith(f"{below}."):
            if below == name and never.startswith(f"{below}."):
                continue  # a name means itself alone
            return f"is not shared: it is {what}"
    return ""


def _check_name(text: str) -> str:
    """Of one to take for itself, and with it (as xdg-dbus-proxy has it) to talk to."""
    if not re.fullmatch(_BUS_NAME, text):
        return "is not a bus name such as org.example.App"
    if text.endswith(".*") and _is_of_players(text):
        return f"is not shared: there {_OPENS}"
    return why_never(text)


def _check_other(text: str) -> str:
    """Of one to talk to."""
    fault = _check_name(text)
    return f"is not shared: there {_OPENS}" if not fault and _is_of_players(text) else fault


def _is_of_players(name: str) -> bool:
    below = name.removesuffix(".*")
    return f"{below}.".startswith(f"{_PLAYERS}.") or (below != name and _PLAYERS.startswith(f"{below}."))


def _check_call(text: str) -> str:
    name, equals, rule = text.partition("=")
    if (
        not equals
        or not re.fullmatch(_BUS_NAME, name)
        or name.endswith(".*")
        or not re.fullmatch(_CALL, rule)
    ):
        return "is not NAME=INTERFACE.METHOD[@PATH], such as org.example.App=org.example.App.Show"
    interface = rule.partition("@")[0]
    if _is_of_players(name) and interface.endswith((".*", ".OpenUri", ".AddTrack")):
        return f"is not shared: there {_OPENS}"
    return why_never(name)


@dataclass(frozen=True)
class Desktop:
    """What of your desktop session the program may use: nothing, unless it is said here.

    What is not there when the program starts is left out, and `-v` says so.
    """

    x11: str = key(
        Choice("off", "untrusted", "trusted"),
        "The X server that DISPLAY names, as `:0` inside, by a cookie of the sandbox's own, which is "
        "void when it ends. `untrusted` does for almost everything, and is left out where `wayland` "
        f"shares a compositor. {EXPOSES['x11 untrusted']} {EXPOSES['x11 trusted']}",
        default="off",
        example='"untrusted"',
    )
    wayland: bool = key(
        Switch(),
        f"The Wayland compositor that WAYLAND_DISPLAY names. {EXPOSES['wayland']}",
        default=False,
        example="true",
    )
    sound: str = key(
        Choice("off", "play", "record"),
        "The sound server (PulseAudio, or PipeWire in its stead), through a filter that lets pass "
        "what playing and, with `record`, recording needs: the server itself would load modules that "
        "send sound through the network, past Tor, or run code. Which device is used, and anything above "
        "100 %, is set outside; there all sandboxes are called torbox, and what the program plays is not "
        f"told. {EXPOSES['sound play']} {EXPOSES['sound record']}",
        default="off",
        example='"play"',
    )
    pipewire: bool = key(
        Switch(),
        f"PipeWire's own socket. {EXPOSES['pipewire']}",
        default=False,
        example="true",
    )
    gpu: bool = key(
        Switch(),
        "The render nodes of /dev/dri (and NVIDIA's devices), and the part of /sys that describes them. "
        f"{EXPOSES['gpu']}",
        default=False,
        example="true",
    )
    dbus_talk: tuple[str, ...] = key(
        Texts(Text("a bus name", _check_other), appends=True),
        "Names on the session bus that the program may call and hear, through xdg-dbus-proxy(1); with"
        " `.*` at the end all below a name. Those that start programs or open links outside are "
        "refused, and the bus itself is never shared. Each can do for the program, as you, whatever "
        "it does for any of yours.",
        default=(),
        example='["org.freedesktop.Notifications"]',
    )
    dbus_own: tuple[str, ...] = key(
        Texts(Text("a bus name", _check_name), appends=True),
        "Names that the program may take for itself, and answer your other programs by.",
        default=(),
        example='["org.mpris.MediaPlayer2.example"]',
    )
    dbus_call: tuple[str, ...] = key(
        Texts(Text("a call", _check_call), appends=True),
        "Single calls: `NAME=INTERFACE.METHOD`, or with `@PATH` at its end of one object alone.",
        default=(),
        example='["org.example.App=org.example.App.Show"]',
    )

    @property
    def bus_names(self) -> tuple[str, ...]:
        """Every name of the session bus that the program has to do with."""
        called = (rule.partition("=")[0] for rule in self.dbus_call)
        return tuple(dict.fromkeys((*self.dbus_talk, *self.dbus_own, *called)))


def exposures(desktop: Desktop) -> Iterator[tuple[str, str]]:
    """What a profile shares of the desktop: the key, and in one sentence what that exposes."""
    if desktop.wayland:
        yield "wayland", EXPOSES["wayland"]
    if desktop.x11 != "off":
        yield "x11", EXPOSES[f"x11 {desktop.x11}"]
    if desktop.sound != "off":
        yield "sound", EXPOSES[f"sound {desktop.sound}"]
    if desktop.pipewire:
        yield "pipewire", EXPOSES["pipewire"]
    if desktop.gpu:
        yield "gpu", EXPOSES["gpu"]
    if desktop.bus_names:
        yield "dbus", EXPOSES["dbus"].format(names=", ".join(desktop.bus_names))
