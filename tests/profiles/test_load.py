# SPDX-License-Identifier: GPL-3.0-or-later
"""Loading profiles: merging, loops, and every fault at once in the words of the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.profiles.conftest import Write
from torbox.errors import EXIT_USAGE, ProfileError
from torbox.profiles import lines, load, search
from torbox.profiles.model import KEYS, value_of


def faults(name_or_path: str, home: Path) -> list[str]:
    with pytest.raises(ProfileError) as caught:
        load.load(name_or_path, {}, home)
    assert caught.value.exit_code == EXIT_USAGE
    return caught.value.faults


def text_faults(text: str) -> list[str]:
    with pytest.raises(ProfileError) as caught:
        load.loads(text, "p.toml")
    return caught.value.faults


# What is right


def test_an_empty_profile_has_every_default() -> None:
    profile = load.loads("")
    for path, key in KEYS.items():
        assert value_of(profile, path) == key.default


SHIPPED = (
    *("browser", "capture", "chat", "chromium", "curl", "default", "git", "mail", "npm", "pip", "shell"),
    *("torrent", "wget"),
)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_profiles_are_right_and_described(home: Path, name: str) -> None:
    profile = load.load(name, {}, home)
    assert profile.name == name
    assert profile.description
    assert profile.files[-1].name == "default.toml"
    assert bool(profile.command) is (name != "default")


def test_no_other_profile_ships_untested() -> None:
    assert sorted(path.stem for path in search.shipped().iterdir()) == list(SHIPPED)


def test_every_key_can_be_given_as_its_example_says() -> None:
    for path, key in KEYS.items():
        if path != "extends":
            assert value_of(load.loads(f"{path} = {key.example}"), path) or key.example == "false"


def test_a_profile_is_merged_onto_what_it_extends(home: Path, write: Write) -> None:
    write(
        "base",
        """
        description = "the base"
        command = ["a", "b"]
        net = { dns = "tor", mtu = 1500, hosts = { "x.example" = "192.0.2.1", "y.example" = "192.0.2.1" } }
        env = { set = { A = "1", B = "1" }, pass = ["C", "D"] }
        mounts = { read_only = ["/srv/a", "/srv/b"], read_write = ["/srv/c"] }
        """,
    )
    write(
        "heir",
        """
        extends = "base"
        command = ["c"]
        net = { mtu = 1400, hosts = { "y.example" = ["192.0.2.2", "2001:db8::2"] } }
        env = { set = { B = "2" }, pass = ["D", "E"] }
        mounts = { read_only = ["/srv/c", "~/d"], read_write = ["/srv/b"] }
        """,
    )
    profile = load.load("heir", {}, home)
    assert profile.description == ""
    assert profile.extends == "base"
    assert profile.command == ("c",)
    assert (profile.net.dns, profile.net.mtu) == ("tor", 1400)
    assert profile.net.hosts == {"x.example": ("192.0.2.1",), "y.example": ("192.0.2.2", "2001:db8::2")}
    assert profile.env.variables == {"A": "1", "B": "2"}
    assert profile.env.passed == ("C", "D", "E")
    assert profile.mounts.read_only == ("/srv/a", "/srv/c", "~/d")
    assert profile.mounts.read_write == ("/srv/b",)
    assert [path.stem for path in profile.files] == ["heir", "base"]
    assert profile.where("net.dns") == "base.toml:4: net.dns"
    assert profile.where("net.mtu") == "heir.toml:4: net.mtu"
    assert profile.where("net.ipv6") == "heir: net.ipv6"


def test_a_profile_may_extend_the_next_of_its_own_name(home: Path, write: Write) -> None:
    own = write("browser", 'extends = "browser"\n[mounts]\nread_write = ["~/Downloads"]\n')
    profile = load.load("browser", {}, home)
    assert profile.files[:2] == (own, search.shipped() / "browser.toml")
    assert profile.command == ("firefox",)
    assert profile.mounts.read_write == ("~/Downloads",)


def test_a_path_may_be_extended_and_is_relative_to_the_file(home: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "base.toml").write_text("net.mtu = 1300")
    (tmp_path / "sub" / "heir.toml").write_text('extends = "../base.toml"')
    assert load.load(str(tmp_path / "sub" / "heir.toml"), {}, home).net.mtu == 1300


def test_a_file_given_by_path_may_extend_the_named_profile_it_is_called_after(
    home: Path, tmp_path: Path
) -> None:
    (tmp_path / "browser.toml").write_text('extends = "browser"\nnet.mtu = 1300\n')
    profile = load.load(str(tmp_path / "browser.toml"), {}, home)
    assert (profile.net.mtu, profile.command) == (1300, ("firefox",))


# What is wrong


def test_all_faults_are_told_at_once_in_the_order_of_the_file() -> None:
    assert text_faults(
        """
        dsn = "tor"
        command = "firefox"
        nett = {}
        home = 3
        [net]
        dns = "nmaes"
        mut = 1500
        mtu = 99
        upstream = "not a url"
        [net.hosts]
        "Upper.example" = "192.0.2.1"
        "x.example" = "192.0.2.256"
        "z.example" = ["::1", 2]
        [identity]
        hostname = "-x"
        user = "root"
        [env]
        pass = ["A B"]
        set = { A = 1 }
        """
    ) == [
        "p.toml: dsn: unknown key; did you mean 'net.dns'?",
        "p.toml: command: 'firefox' is not a list of texts",
        "p.toml: nett: unknown key; did you mean 'net'?",
        "p.toml: home: 3 is not a table",
        "p.toml: net.dns: 'nmaes' is not one of names, tor, off; did you mean 'names'?",
        "p.toml: net.mut: unknown key; did you mean 'net.mtu'?",
        "p.toml: net.mtu: 99 is not a whole number of bytes from 1280 to 65520",
        "p.toml: net.upstream: 'not a url' is not a URL such as tor://127.0.0.1:9050",
        "p.toml: net.hosts: 'Upper.example' is not a host name in lower case",
        "p.toml: net.hosts.'x.example': '192.0.2.256' is not an IPv4 or IPv6 address",
        "p.toml: net.hosts.'z.example'[1]: 2 is not an address",
        "p.toml: identity.hostname: '-x' is not a host name of at most 64 letters, digits, hyphens and dots",
        "p.toml: identity.user: 'root' is the name of user 0, which the program is not",
        "p.toml: env.pass[0]: 'A B' is not the name of an environment variable",
        "p.toml: env.set.A: 1 is not a text",
    ]


def test_keys_of_later_versions_are_unknown_and_not_passed_over() -> None:
    assert text_faults('home.mode = "private"') == [
        "p.toml: home.mode: 'private' is not one of fake, persist, overlay, host"
    ]
    assert text_faults("[quotas]\nmemory_mb = 5") == ["p.toml: quotas: unknown key"]
    assert text_faults('net."a b" = 1') == ["p.toml: net.'a b': unknown key"]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/", "is never shared as a whole: name what is needed of it"),
        ("/run/", "is never shared as a whole: name what is needed of it"),
        ("/etc", "is never shared as a whole: name what is needed of it"),
        ("~/", "is never shared as a whole: name what is needed of it"),
        ("~//", "is never shared as a whole: name what is needed of it"),
        ("/proc/1", "is not shared: the sandbox has its own"),
        ("/dev/mem", "is not shared: the sandbox has its own"),
        ("/etc/resolv.conf", "is not shared: the sandbox has its own"),
        ("srv", "is not an absolute path, nor one that begins with ~/"),
        ("~", "is not an absolute path, nor one that begins with ~/"),
        ("~root/x", "is not an absolute path, nor one that begins with ~/"),
        ("", "is not an absolute path, nor one that begins with ~/"),
        ("/srv/../etc", "has an empty part, '.' or '..' in it"),
        ("/srv//x", "has an empty part, '.' or '..' in it"),
        ("//", "is never shared as a whole: name what is needed of it"),
        ("~/./x", "has an empty part, '.' or '..' in it"),
    ],
)
@pytest.mark.parametrize("key", ["read_only", "read_write"])
def test_paths_that_would_open_the_sandbox_are_not_shared(key: str, path: str, told: str) -> None:
    assert text_faults(f'mounts.{key} = ["{path}"]') == [f"p.toml: mounts.{key}[0]: '{path}' {told}"]


@pytest.mark.parametrize(
    "path", ["/srv", "/tmp/x", "/run/user/1000/wayland-0", "/etc/ssl", "~/a b", "/etcetera", "/devices"]
)
def test_other_paths_are_shared(path: str) -> None:
    assert load.loads(f'mounts.read_only = ["{path}"]').mounts.read_only == (path,)


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../b", "", "a//b", "a/", "~/x", "./x"])
def test_files_of_the_home_stay_in_it(path: str) -> None:
    (told,) = text_faults(f'home.files = {{ "{path}" = "" }}')
    assert told.startswith(f"p.toml: home.files: '{path}' ")


def test_contradictions_within_one_profile_are_told() -> None:
    assert text_faults('mounts = { read_only = ["/a"], read_write = ["/a"] }') == [
        "p.toml: mounts.read_write: '/a' is in mounts.read_only too"
    ]
    assert text_faults('home.files = { "a/b/c" = "", "a" = "" }') == [
        "p.toml: home.files: 'a' is a file, so 'a/b/c' cannot be below it"
    ]


def test_faults_of_the_whole_chain_are_told_with_the_file_they_are_in(home: Path, write: Write) -> None:
    write("base", "net.mtu = 1")
    write("heir", 'extends = "base"\nnet.ipv6 = 1\n')
    assert faults("heir", home) == [
        "heir.toml:2: net.ipv6: 1 is not true or false",
        "base.toml:1: net.mtu: 1 is not a whole number of bytes from 1280 to 65520",
    ]


def test_files_of_one_name_are_told_apart(home: Path, write: Write) -> None:
    path = write("browser", 'extends = "browser"')
    search.SYSTEM.mkdir()
    (search.SYSTEM / "browser.toml").write_text("x = 1")
    assert faults("browser", home) == [f"{search.SYSTEM / 'browser.toml'}:1: x: unknown key"]
    assert path.exists()


def test_a_base_that_is_missing_or_broken_is_told_beside_the_other_faults(home: Path, write: Write) -> None:
    write("heir", 'extends = "defualt"\nnet.ipv6 = 1\n')
    assert faults("heir", home) == [
        "heir.toml:1: extends: no profile is called 'defualt'; did you mean 'default'?",
        "heir.toml:2: net.ipv6: 1 is not true or false",
    ]
    write("heir", 'extends = "./missing.toml"')
    (fault,) = faults("heir", home)
    assert fault.startswith("heir.toml:1: extends: ")
    assert fault.endswith("/missing.toml: cannot be opened: No such file or directory")
    write("heir", 'extends = "a/\\u0000"')
    assert faults("heir", home) == ["heir.toml:1: extends: 'a/\\x00' contains a NUL character"]
    write("heir", 'extends = "heir"')
    assert faults("heir", home) == ["heir.toml:1: extends: there is no other profile called 'heir'"]


def test_loops_are_found(home: Path, write: Write) -> None:
    write("a", 'extends = "b"')
    write("b", 'extends = "c"')
    path = write("c", 'extends = "a"')
    assert faults("a", home) == ["c.toml:1: extends: 'a' leads back to a.toml"]
    path.write_text('extends = "./c.toml"')
    assert faults("c", home) == ["c.toml:1: extends: './c.toml' leads back to c.toml"]


def test_a_file_that_is_wrong_all_over_is_told_soon_and_not_at_full_length(home: Path, write: Write) -> None:
    write("wrong", "".join(f"a{number} = 1\n" for number in range(50_000)))
    told = faults("wrong", home)
    assert len(told) == load.FAULTS_MAX + 1
    assert told[0] == "wrong.toml:1: a0: unknown key"
    assert told[-1] == "and more faults than these"
    write("wrong", "a" * 100_000 + " = 1")
    (fault,) = faults("wrong", home)
    assert len(fault) < 120


def test_a_path_longer_than_any_is_refused_before_its_parts_are_looked_at() -> None:
    long = "a/" * 3000 + "a"
    assert "longer than a path" in text_faults(f'home.files = {{ "{long}" = "" }}')[0]
    assert "longer than a path" in text_faults(f'mounts.read_only = ["/{long}"]')[0]


def test_an_inherited_part_of_a_value_is_told_with_the_file_that_gave_it(home: Path, write: Write) -> None:
    write("base", '[mounts]\nread_only = [\n"/srv/a",\n"/srv/b"]\n[env.set]\nA = "1"\nB = "1"')
    write("heir", 'extends = "base"\nmounts.read_only = ["/srv/c"]\nenv.set.B = "2"')
    profile = load.load("heir", {}, home)
    assert profile.where("mounts.read_only", "/srv/b") == "base.toml:4: mounts.read_only"
    assert profile.where("mounts.read_only", "/srv/c") == "heir.toml:2: mounts.read_only"
    assert profile.where("mounts.read_only") == "heir.toml:2: mounts.read_only"
    assert profile.where("env.set", "A") == "base.toml:6: env.set"
    assert profile.where("env.set", "B") == "heir.toml:3: env.set"


def test_what_is_right_is_there_beside_the_faults_of_the_rest(home: Path, write: Write) -> None:
    write("base", "net.mtu = 1\nnet.queues = 2\n")
    write("heir", 'extends = "base"\nnet.ipv6 = 1\nmounts.read_only = ["/srv"]')
    profile, told = load.examine("heir", {}, home)
    assert len(told) == 2
    assert (profile.net.queues, profile.mounts.read_only) == (2, ("/srv",))
    assert profile.net.mtu == KEYS["net.mtu"].default
    write("heir", "[")
    profile, told = load.examine("heir", {}, home)
    assert len(told) == 1
    assert profile.files == ()


def test_no_line_is_looked_for_in_a_profile_without_faults(
    home: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(text: str) -> None:
        raise AssertionError("the text is gone through once more")

    monkeypatch.setattr(lines, "scan", never)
    write("mine", 'extends = "browser"\nmounts.read_only = ["/srv"]')
    load.load("mine", {}, home)


def test_a_text_extends_no_file() -> None:
    assert text_faults('extends = "default"') == ["p.toml: extends: a text cannot extend a file"]


KEY_OR_ANY = st.sampled_from([*KEYS, "net", "env", "home", "mounts", "x", "net.x"])
VALUE = st.sampled_from(
    ['""', "1", "true", "[]", "{}", '["a"]', '{ a = "b" }', '"tor"', "1979-05-27", "[1, [2]]", "nan"]
)


@given(st.lists(st.tuples(KEY_OR_ANY, VALUE), max_size=6))
def test_no_profile_makes_the_loader_raise_anything_else(lines: list[tuple[str, str]]) -> None:
    faults = ["p.toml: "]
    try:
        load.loads("\n".join(f"{key} = {value}" for key, value in lines), "p.toml")
    except ProfileError as error:
        faults = error.faults
    assert faults
    assert all(fault.startswith("p.toml:") and fault.isprintable() for fault in faults)
