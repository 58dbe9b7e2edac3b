# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest

from torbox.capture_file import created
from torbox.errors import UsageError
from torbox.netstack.capture import FILE_HEADER


def test_a_new_file_with_a_capture_that_is_empty_and_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "some.pcap"
    with created(str(path)) as made:
        os.write(made.descriptor, b"record")
        made.keep()
    assert path.read_bytes() == FILE_HEADER + b"record"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(made.descriptor)


def test_a_name_alone_is_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with created("some.pcap") as made:
        made.keep()
    assert (tmp_path / "some.pcap").exists()


def test_what_is_there_is_not_overwritten_even_if_it_leads_nowhere(tmp_path: Path) -> None:
    (there := tmp_path / "there").write_text("mine")
    (dangling := tmp_path / "dangling").symlink_to("nothing")
    for path in (there, dangling, tmp_path):
        with pytest.raises(UsageError, match=r"--pcap: .*is there already"), created(str(path)):
            pass
    assert there.read_text() == "mine"
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("name", ["no/such/directory", "nul\0", "x" * 300, "directory/"])
def test_what_cannot_be_made_is_said_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "directory").mkdir()
    with (
        pytest.raises(UsageError, match=r"--pcap: .* cannot be made: ") as caught,
        created(f"{tmp_path}/{name}"),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_a_symlink_on_the_way_is_not_followed(tmp_path: Path) -> None:
    """A sandbox before this one may have put it into a directory that was shared with it."""
    (tmp_path / "private").mkdir()
    (tmp_path / "captures").symlink_to("private")
    with pytest.raises(UsageError, match="symlink"), created(f"{tmp_path}/captures/some.pcap"):
        pass
    assert not any((tmp_path / "private").iterdir())


def test_of_a_sandbox_that_did_not_start_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "some.pcap"
    with created(str(path)):
        pass
    assert not path.exists()


def test_no_file_but_the_one_that_was_made_is_removed(tmp_path: Path) -> None:
    (directory := tmp_path / "sub").mkdir()
    (other := tmp_path / "other").mkdir()
    (mine := other / "some.pcap").write_text("mine")
    with created(str(directory / "some.pcap")):
        directory.rename(tmp_path / "moved")
        directory.symlink_to("other")
    assert mine.read_text() == "mine"
    assert not (tmp_path / "moved" / "some.pcap").exists()
    with created(str(other / "new.pcap")):
        (other / "new.pcap").rename(other / "away")
        (other / "new.pcap").write_text("mine")
    assert (other / "new.pcap").read_text() == "mine"
