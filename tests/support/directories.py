# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories that every user of the machine may come by; pytest's own are closed to all but theirs.

To open one of pytest's would not last: whichever run asks for a directory next closes their common root.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_directory(mode: int = 0o755) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="torbox-test-", dir="/var/tmp") as directory:
        path = Path(directory)
        path.chmod(mode)
        yield path


@contextmanager
def profile(text: str) -> Iterator[str]:
    """The path of a profile that everybody can read, in a directory that no test shares."""
    with open_directory() as directory:
        path = directory / "p.toml"
        path.write_text(text)
        yield str(path)
