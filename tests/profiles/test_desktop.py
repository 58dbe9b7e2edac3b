# SPDX-License-Identifier: GPL-3.0-or-later
"""The table [desktop]: every key says what it exposes, and names that lead out are refused."""

from __future__ import annotations

import pytest

from torbox.errors import ProfileError
from torbox.profiles import desktop, load
from torbox.profiles.model import KEYS

_PLAYER = "org.mpris.MediaPlayer2.Player"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("org.freedesktop.systemd1", "systemd, which starts programs outside"),
        ("org.freedesktop.portal.Desktop", "portals, which open links"),
        ("org.freedesktop.*", "systemd"),
        ("org.*", "is not a bus name"),
        ("org.mozilla.firefox.ZGVmYXVsdA__", "a Firefox or Thunderbird outside"),
        ("org.mozilla.*", "a Firefox or Thunderbird outside"),
        ("org.gnome.Shell.Screencast", "the desktop itself"),
        ("org.freedesktop.secrets", "the keyring"),
        ("org.gtk.vfs.Daemon", "GVfs, which fetches"),
        ("org.gtk.vfs.*", "GVfs, which fetches"),
        ("org.kde.KIOFuse", "KIO, which fetches"),
        ("org.gnome.Mutter.RemoteDesktop", "types into windows"),
        ("org.mpris.MediaPlayer2.*", "players outside"),
        ("org.mpris.*", "players outside"),
        ("notdotted", "is not a bus name"),
        (":1.7", "is not a bus name"),
    ],
)
def test_a_name_that_leads_out_is_refused(name: str, why: str) -> None:
    for text in (f'dbus_talk = ["{name}"]', f'dbus_own = ["{name}"]'):
        with pytest.raises(ProfileError, match=r"desktop\.dbus") as caught:
            load.loads(f"[desktop]\n{text}")
        assert why in str(caught.value)


@pytest.mark.parametrize(
    "name", ["org.freedesktop.Notifications", "org.example.*", "org.freedesktop.ScreenSaver"]
)
def test_another_is_not(name: str) -> None:
    assert load.loads(f'[desktop]\ndbus_talk = ["{name}"]').desktop.bus_names == (name,)


def test_a_player_may_be_one_itself_but_tell_no_other_what_to_fetch() -> None:
    name = "org.mpris.MediaPlayer2.vlc"
    assert load.loads(f'[desktop]\ndbus_own = ["{name}"]').desktop.bus_names == (name,)
    pause = f"{name}={_PLAYER}.Pause"
    assert load.loads(f'[desktop]\ndbus_call = ["{pause}"]').desktop.bus_names == (name,)
    for text in (
        f'dbus_talk = ["{name}"]',
        f'dbus_call = ["{name}={_PLAYER}.OpenUri"]',
        f'dbus_call = ["{name}={_PLAYER}.*@/org/mpris/MediaPlayer2"]',
    ):
        with pytest.raises(ProfileError, match="players outside"):
            load.loads(f"[desktop]\n{text}")


@pytest.mark.parametrize(
    "rule",
    [
        "org.example.App",
        "org.example.App=",
        "org.example.*=a.b.C",
        "org.freedesktop.systemd1=a.b.C",
        "a.b=*",
        "a.b=x y",
    ],
)
def test_a_call_names_one_program_and_what_is_called(rule: str) -> None:
    with pytest.raises(ProfileError):
        load.loads(f'[desktop]\ndbus_call = ["{rule}"]')
    found = load.loads('[desktop]\ndbus_call = ["org.example.App=org.example.App.Show@/org/example"]').desktop
    assert found.bus_names == ("org.example.App",)


def test_what_a_key_exposes_is_a_sentence_in_its_documentation() -> None:
    everything = load.loads(
        '[desktop]\nx11 = "trusted"\nwayland = true\nsound = "record"\npipewire = true\ngpu = true\n'
        'dbus_talk = ["org.example.App"]'
    ).desktop
    told = dict(desktop.exposures(everything))
    assert list(told) == ["wayland", "x11", "sound", "pipewire", "gpu", "dbus"]
    for key, sentence in told.items():
        if key != "dbus":
            assert sentence in KEYS[f"desktop.{key}"].doc
    assert not dict(desktop.exposures(load.loads("").desktop))
