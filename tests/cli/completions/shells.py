# SPDX-License-Identifier: GPL-3.0-or-later
"""What a shell offers at the end of a line, asked of the shell itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from torbox.cli.completions import SHELLS

Offered = Callable[[str], set[str]]  # the words that complete a line

ROOT = Path(__file__).parents[3]

# Lines, some of what must be offered for each, and some of what must not.
LINES = [
    ("torbox ", {"run", "shell", "profile", "completion"}, {"list", "--json"}),
    ("torbox pro", {"profile"}, {"run"}),
    ("torbox run --up", {"--upstream"}, {"--user"}),
    ("torbox run --profile cur", {"curl"}, {"browser"}),
    ("torbox run --profile browser --dry", {"--dry-run"}, {"--profile"}),
    ("torbox run --upstream di", {"direct"}, {"tor"}),
    ("torbox run --allow-missing ", {"landlock", "seccomp"}, {"--profile"}),
    ("torbox verify --allow-missing key", {"keyring"}, {"landlock"}),
    ("torbox run tru", {"true"}, {"--profile"}),
    ("torbox run --profile browser -v -- tru", {"true"}, {"--profile"}),
    ("torbox shell --ver", {"--verify", "--verbose"}, {"--user"}),
    ("torbox profile ", {"list", "show", "check", "new", "schema"}, {"run"}),
    ("torbox profile show sh", {"shell"}, {"show"}),
    ("torbox profile show --res", {"--resolved"}, {"--path"}),
    ("torbox profile check curl bro", {"browser"}, {"check"}),
    ("torbox profile new mine --from bro", {"browser"}, set()),
    ("torbox profile show curl --res", {"--resolved"}, set()),
    ("torbox home reset wor", {"work"}, {"play"}),
    ("torbox home reset work pl", {"play"}, {"work"}),
    ("torbox home --us", {"--user"}, {"--profile"}),
    ("torbox home --user root li", {"list"}, {"reset"}),
    ("torbox completion ", {"bash", "fish", "zsh"}, {"run"}),
]


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(shell), reason=f"{shell} is not installed")


@contextmanager
def prepared(shell: str, tmp_path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """The shell's script in a file, and an environment with a torbox to ask for profiles."""
    script = tmp_path / f"_torbox.{shell}"
    script.write_text(SHELLS[shell]())
    programs = tmp_path / "bin"
    programs.mkdir()
    torbox = programs / "torbox"
    # Homes are made up: root, as whom this may run, has none.
    torbox.write_text(
        "#!/bin/sh\n"
        "[ \"$1 $2\" = 'home list' ] && printf '%s\\t\\n' work play && exit\n"
        f'exec {sys.executable} -P -m torbox "$@"\n'
    )
    torbox.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    path = f"{programs}:/usr/bin:/bin"
    yield (
        script,
        {
            "PATH": path,
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "TERM": "dumb",
            "LANG": "C.UTF-8",
            "XDG_CONFIG_HOME": str(home / ".config"),
        },
    )


def output(command: list[str], environment: dict[str, str]) -> str:
    """What a command prints; it must have nothing to complain of."""
    done = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
        stdin=subprocess.DEVNULL,
        cwd=os.environ.get("TMPDIR", "/tmp"),
    )
    assert done.stderr == "", done.stderr
    return done.stdout
