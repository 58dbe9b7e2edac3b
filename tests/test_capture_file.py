# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest

from torbox.capture_file import created
from torbox.errors import SetupError, UsageError
from torbox.netstack.capture import FILE_HEADER


def test_a_new_file_with_a_capture_that_is_empty_and_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "some.pcap"
    with created(str(path)) as descriptor:
        os.write(descriptor, b"record")
    assert path.read_bytes() == FILE_HEADER + b"record"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)


def test_what_is_there_is_not_overwritten_even_if_it_leads_nowhere(tmp_path: Path) -> None:
    (there := tmp_path / "there").write_text("mine")
    (dangling := tmp_path / "dangling").symlink_to("nothing")
    for path in (there, dangling, tmp_path):
        with pytest.raises(UsageError, match=r"--pcap: .*is there already"), created(str(path)):
            pass
    assert there.read_text() == "mine"
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("name", ["no/such/directory", "nul\0", "x" * 300])
def test_what_cannot_be_made_is_said_in_one_line(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(UsageError, match=r"--pcap: .* cannot be made: ") as caught,
        created(f"{tmp_path}/{name}"),
    ):
        pass
    assert "\n" not in str(caught.value)


def begin(path: Path, text: bytes) -> None:
    with created(str(path)) as descriptor:
        os.write(descriptor, text)
        raise SetupError("start", 0, "no")


def test_nothing_is_left_of_a_sandbox_that_did_not_start_but_what_was_captured_is(tmp_path: Path) -> None:
    path = tmp_path / "some.pcap"
    for text in (b"", b"record"):
        with pytest.raises(SetupError):
            begin(path, text)
        assert path.exists() == bool(text)
