# SPDX-License-Identifier: GPL-3.0-or-later
"""zsh completes torbox's command lines."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.completions.shells import LINES, Offered, needs, prepared

# What the completion adds is told in a file, as is its end; zsh completes on a terminal alone.
SETUP = """
fpath=({directory} $fpath)
autoload -Uz compinit
compinit -D -u
compadd() {{
    local options="${{(j: :)@[1,(i)(-|--)]}}"
    if [[ " $options" == *" -"[a-zA-Z]#[OAD]" "* ]]; then
        builtin compadd "$@"
        return
    fi
    local -a __found
    builtin compadd -A __found "$@"
    print -rl -- $__found >>{told}
    builtin compadd "$@"
}}
setopt EXTENDED_GLOB
tell() {{ zle complete-word; print -r end-of-completion >>{told} }}
zle -N tell
bindkey '^I' tell
print -r ready >>{told}
"""
TIMEOUT_S = 20

pytestmark = needs("zsh")


@pytest.fixture
def offered(tmp_path: Path) -> Iterator[Offered]:
    with prepared("zsh", tmp_path) as (script, environment):
        script.rename(tmp_path / "_torbox")
        told, setup = tmp_path / "told", tmp_path / "setup"
        setup.write_text(SETUP.format(directory=tmp_path, told=told))
        told.write_text("")
        master, slave = pty.openpty()
        process = subprocess.Popen(
            ["zsh", "-f", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
        os.close(slave)

        def until(word: str) -> None:
            deadline = time.monotonic() + TIMEOUT_S
            seen = b""
            while word not in told.read_text().splitlines():
                assert time.monotonic() < deadline, seen.decode(errors="replace")
                if select.select([master], [], [], 0.05)[0]:
                    seen += os.read(master, 65536)  # or it would wait for its terminal

        def offered(line: str) -> set[str]:
            os.write(master, f"source {setup}\n".encode())
            until("ready")
            os.write(master, f"{line}\t".encode())
            until("end-of-completion")
            return set(told.read_text().splitlines())

        yield offered
        process.kill()
        process.wait()
        os.close(master)


@pytest.mark.parametrize(("line", "some", "none"), LINES, ids=[line for line, _, _ in LINES])
def test_what_may_follow_is_offered(offered: Offered, line: str, some: set[str], none: set[str]) -> None:
    found = offered(line)
    assert some <= found
    assert not none & found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("torbox run --profile=chr", "chromium"),
        ("torbox run --profile=chromium --dry", "--dry-run"),
        ("torbox run --profile=chromium tru", "true"),
    ],
)
def test_a_value_may_be_in_the_options_own_word(offered: Offered, line: str, found: str) -> None:
    assert found in offered(line)
