# SPDX-License-Identifier: GPL-3.0-or-later
"""New profiles: right as they are, right with any key taken at its word, and whole or not there at all."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.profiles.conftest import Write
from torbox.errors import ProfileError, UsageError
from torbox.profiles import draft, load, search
from torbox.profiles.model import KEYS, value_of

OWN = Path(".config") / "torbox" / "profiles"
COMMENTED = re.compile(r'^#(?=[a-z0-9_]+(\.("[^"]+"|\S+))? = )', re.MULTILINE)
SHIPPED = sorted(path.stem for path in search.shipped().iterdir())


@pytest.mark.parametrize("base", SHIPPED)
def test_a_new_profile_says_what_its_base_does_and_nothing_else(home: Path, base: str) -> None:
    path = draft.make("mine", base, {}, home)
    assert path == home / OWN / "mine.toml"
    mine, theirs = load.load("mine", {}, home), load.load(base, {}, home)
    for key in KEYS:
        if key not in ("description", "extends"):
            assert value_of(mine, key) == value_of(theirs, key), key
    assert mine.extends == base
    assert mine.description


@pytest.mark.parametrize("base", SHIPPED)
def test_every_key_is_there_and_right_once_its_comment_is_gone(home: Path, base: str) -> None:
    path = draft.make("mine", base, {}, home)
    text, count = COMMENTED.subn("", path.read_text())
    assert count >= len(KEYS) - 2
    path.write_text(text)
    load.load("mine", {}, home)
    for key in KEYS.values():
        assert " ".join(key.doc.split()) in " ".join(text.replace("\n# ", " ").split()) or not key.section


def test_each_key_may_be_taken_by_itself(home: Path) -> None:
    path = draft.make("mine", "default", {}, home)
    text = path.read_text()
    for match in COMMENTED.finditer(text):
        path.write_text(text[: match.start()] + text[match.end() :])
        assert load.load("mine", {}, home)


def test_it_opens_with_the_schema_and_is_nobody_elses_to_read(home: Path) -> None:
    path = draft.make("mine", "default", {}, home)
    assert path.read_text().startswith("#:schema file:///")
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0
    assert max(map(len, path.read_text().splitlines())) <= 120 + len(draft.schema.directive())


def test_a_profile_may_be_made_from_the_one_it_goes_before_or_from_a_file(home: Path, write: Write) -> None:
    draft.make("browser", "browser", {}, home)
    assert [path.parent for path in load.load("browser", {}, home).files] == [
        home / OWN,
        search.shipped(),
        search.shipped(),
    ]
    elsewhere = home / "a b.toml"
    elsewhere.write_text("net.mtu = 1500")
    draft.make("mine", str(elsewhere), {}, home)
    assert load.load("mine", {}, home).net.mtu == 1500


def test_long_inherited_texts_are_named_and_short_ones_repeated(home: Path, write: Write) -> None:
    write("base", 'env.set.A = "1"\n[home.files]\n".long" = """a\nb"""\n')
    text = draft.make("mine", "base", {}, home).read_text()
    assert '\n#set.A = "1"\n' in text
    assert "too long to repeat here: '.long'." in text


@pytest.mark.parametrize("name", ["mine", "dir", "pipe", "dangling"])
def test_nothing_is_ever_overwritten(home: Path, write: Write, name: str) -> None:
    own = write("mine", "net.mtu = 1500").parent
    (own / "dir.toml").mkdir()
    os.mkfifo(own / "pipe.toml")
    (own / "dangling.toml").symlink_to(home / "elsewhere")
    before = sorted(os.listdir(own))
    with pytest.raises(ProfileError) as caught:
        draft.make(name, "default", {}, home)
    assert caught.value.faults == [f"{own}/{name}.toml: is there already, and is not overwritten"]
    assert sorted(os.listdir(own)) == before
    assert (own / "mine.toml").read_text() == "net.mtu = 1500"
    assert not (home / "elsewhere").exists()


def test_nor_is_what_came_between_the_look_and_the_writing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    path = home / OWN / "mine.toml"
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    for step in ("with O_TMPFILE", "without"):
        with pytest.raises(ProfileError) as caught:
            draft.make("mine", str(search.shipped() / "default.toml"), {}, home)
        assert "is there already" in caught.value.faults[0], step
        assert os.listdir(path.parent) == ["mine.toml"]
        assert path.read_text() == "mine"
        monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY | os.O_WRONLY)  # EISDIR, as an old kernel has it


def test_without_unnamed_files_it_is_made_under_its_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY | os.O_WRONLY)
    draft.make("mine", "default", {}, home)
    assert load.load("mine", {}, home)


@pytest.mark.parametrize("unnamed", ["True", "False"])
def test_a_disk_that_is_full_leaves_nothing_behind(home: Path, unnamed: str) -> None:
    program = f"""
import os, resource, sys
from pathlib import Path
from torbox.errors import ProfileError
from torbox.profiles import draft
if not {unnamed}:
    os.O_TMPFILE = os.O_DIRECTORY | os.O_WRONLY
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # bytes
try:
    draft.make("mine", "default", {{}}, Path(sys.argv[1]))
except ProfileError as error:
    print(*error.faults)
"""
    done = subprocess.run(
        [sys.executable, "-B", "-c", program, str(home)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{home / OWN}/mine.toml: cannot be made: File too large\n"
    assert os.listdir(home) == []


@pytest.mark.parametrize(
    ("base", "told"),
    [
        ("nonesuch", "no profile is called 'nonesuch'"),
        ("./nonesuch.toml", "nonesuch.toml: cannot be opened: No such file or directory"),
        ("/", "/: is a directory"),
    ],
)
def test_a_base_that_is_wrong_makes_nothing(home: Path, base: str, told: str) -> None:
    with pytest.raises(ProfileError) as caught:
        draft.make("mine", base, {}, home)
    assert caught.value.faults == [told]
    assert os.listdir(home) == []


@pytest.mark.parametrize("what", ["a file", "a dangling link"])
def test_what_is_where_a_directory_would_be_is_told_and_stays(home: Path, what: str) -> None:
    there = home / ".config" / "torbox"
    there.parent.mkdir()
    if what == "a file":
        there.write_text("")
    else:
        there.symlink_to("nothing")
    with pytest.raises(ProfileError) as caught:
        draft.make("mine", "default", {}, home)
    assert caught.value.faults == [f"{home / OWN}/mine.toml: cannot be made: Not a directory"]
    assert os.listdir(there.parent) == ["torbox"]


def test_a_directory_that_another_makes_at_the_same_time_is_used(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = os.mkdir

    def late(path: Path, mode: int) -> None:
        make(path, mode)
        raise FileExistsError

    monkeypatch.setattr(os, "mkdir", late)
    assert draft.make("mine", "default", {}, home).exists()


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "../x",
        "/etc/x",
        "x.toml",
        ".hidden",
        "-x",
        "a b",
        "a\nb",
        "a\0b",
        "\udcff",
        "a" * 251,
    ],
)
def test_a_name_that_no_profile_can_have_is_refused(home: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        draft.make(name, "default", {}, home)
    assert caught.value.message.isprintable()
    assert os.listdir(home) == []


@pytest.mark.parametrize("name", ["a", "büro", "a.b", "work-2", "c++", "1"])
def test_other_names_are_found_again(home: Path, name: str) -> None:
    draft.make(name, "default", {}, home)
    assert load.load(name, {}, home).name == name
