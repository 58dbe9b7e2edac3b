# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a profile's file: whatever is at the path, one sentence or a table."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torbox.errors import ProfileError
from torbox.profiles import document


def fault(path: Path) -> str:
    with pytest.raises(ProfileError) as caught:
        document.read(path)
    (only,) = caught.value.faults
    assert only.isprintable()
    return only


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "p.toml"


def test_a_good_file_is_a_table(file: Path) -> None:
    file.write_text('description = "é"\n[net]\ndns = "tor"\n')
    assert document.read(file) == {"description": "é", "net": {"dns": "tor"}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = 1\nb = \n", "p.toml:2:5: invalid value"),
        ("a = 1\na = 2\n", "p.toml:2:6: cannot overwrite a value"),
        ('a = "x', "p.toml:1: at its end: unterminated string"),
        ("a = " + "[" * 100_000, "p.toml: tables or lists are nested too deeply"),
        ("a = " + "1" * 100_000, "p.toml: holds a number that is too long"),
        ("\x00", "p.toml:1:1: "),
    ],
)
def test_what_is_not_toml_is_told_with_its_place(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    assert fault(file).startswith(told)


def test_what_is_not_text_is_told_with_its_line(file: Path) -> None:
    file.write_bytes(b"a = 1\nb = '\xff'\n")
    assert fault(file) == "p.toml:2: not UTF-8 text"


def test_a_file_that_is_too_large_is_refused(file: Path) -> None:
    file.write_bytes(b"#" * (1 << 20))
    assert document.read(file) == {}
    file.write_bytes(b"#" * ((1 << 20) + 1))
    assert fault(file) == "p.toml: is larger than 1 MiB"


def test_what_is_not_a_file_is_refused_without_waiting(tmp_path: Path, file: Path) -> None:
    assert fault(file) == f"{file}: cannot be opened: No such file or directory"
    assert fault(tmp_path).endswith(": is a directory")
    os.mkfifo(file)
    assert fault(file) == "p.toml: is not a regular file"
    assert fault(Path("/dev/zero")) == "zero: is not a regular file"
    loop = tmp_path / "loop.toml"
    loop.symlink_to(loop)
    assert fault(loop) == f"{loop}: cannot be opened: Too many levels of symbolic links"
    assert fault(Path("a\0b.toml")).endswith("a path cannot contain a NUL character")
    assert fault(file / "x.toml") == f"{file}/x.toml: cannot be opened: Not a directory"


def test_a_file_that_may_not_be_read_is_told(file: Path) -> None:
    file.write_text("")
    file.chmod(0)
    if os.geteuid() == 0:
        # root may read everything, so ask as somebody else would
        pid = os.fork()
        if pid == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            try:
                document.read(file)
            except ProfileError as error:
                os._exit(0 if "cannot be opened: Permission denied" in error.faults[0] else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    else:
        assert fault(file) == f"{file}: cannot be opened: Permission denied"
    assert stat.S_IMODE(file.stat().st_mode) == 0


def test_no_descriptor_stays_open(file: Path, tmp_path: Path) -> None:
    file.write_text("a = 1")
    before = len(os.listdir("/proc/self/fd"))
    document.read(file)
    fault(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_odd_file_names_are_told_in_printable_letters() -> None:
    assert document.label(Path("a\nb.toml")) == "'a\\nb.toml'"
    assert document.label(Path(os.fsdecode(b"\xff.toml"))) == "'\\udcff.toml'"
    assert document.label(Path("/")) == "/"


@given(st.text(alphabet="ab=.[]{}\"'\n\\,#1-:u ", max_size=60))
def test_no_text_makes_the_parser_raise_anything_else(text: str) -> None:
    try:
        document.parse(text, "p.toml")
        faults = ["p.toml: "]
    except ProfileError as error:
        faults = error.faults
    assert [fault[:7] for fault in faults] == ["p.toml:"]
