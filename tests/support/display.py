# SPDX-License-Identifier: GPL-3.0-or-later
"""An X server without a screen, and hands to use what is on it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

NEEDS = ("Xvfb", "xdotool", "xwininfo", "xhost")


def missing() -> str:
    """What of the programs that this module needs is not there."""
    return ", ".join(name for name in NEEDS if shutil.which(name) is None)


class Display:
    """A display of the test's own. `environment` is what its user's programs have."""

    def __init__(self, number: str, xauthority: Path) -> None:
        self.name = f":{number}"
        self.environment = {"DISPLAY": self.name, "XAUTHORITY": str(xauthority)}

    def tool(self, *command: str) -> str:
        """The output of a program of the display's user, "" if it fails."""
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **self.environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
        return done.stdout if done.returncode == 0 else ""

    def windows(self, title: str) -> list[str]:
        """The ids of the visible windows whose title has this in it."""
        return self.tool("xdotool", "search", "--onlyvisible", "--name", title).split()

    def wait_for(self, title: str, timeout_s: float = 60) -> str:
        """The id of the first window of this title, once it is there; nothing tells when."""
        end = time.monotonic() + timeout_s
        while not (found := self.windows(title)):
            assert time.monotonic() < end, (
                f"no window {title!r}; there are:\n{self.tool('xwininfo', '-root', '-tree')}"
            )
            time.sleep(0.1)
        return found[0]

    def wait_until_gone(self, title: str, timeout_s: float = 20) -> None:
        end = time.monotonic() + timeout_s
        while self.windows(title):
            assert time.monotonic() < end, f"the window {title!r} is still there"
            time.sleep(0.1)

    def press(self, window: str, key: str) -> None:
        """Press a key (xdotool's name) for a window, at a human's pace."""
        self.tool("xdotool", "windowfocus", "--sync", window)
        self.tool("xdotool", "sleep", "0.5")
        self.tool("xdotool", "key", key)
        self.tool("xdotool", "sleep", "0.5")

    def click(self, window: str, x: int, y: int) -> None:
        """Press and let go of the mouse's left button over a place of a window, which nothing may cover."""
        self.tool("xdotool", "mousemove", "--window", window, str(x), str(y), "sleep", "0.2", "click", "1")

    def visit(self, window: str, url: str, title: str) -> None:
        """Type an address into a browser's window, as a human would, until its page is there.

        A window that has just opened may not listen yet, so it is tried again.
        """
        for _ in range(5):
            self.press(window, "ctrl+l")
            self.tool("xdotool", "type", "--delay", "20", url)
            self.press(window, "Return")
            with contextlib.suppress(AssertionError):
                self.wait_for(title, 5)
                return
        self.wait_for(title, 0)


@contextlib.contextmanager
def display(owner: int) -> Iterator[Display]:
    """An Xvfb with a cookie that user `owner` can read, for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="torbox-display-") as directory:
        os.chmod(directory, 0o755)
        xauthority = Path(directory, "Xauthority")
        fields = (b"", b"", b"MIT-MAGIC-COOKIE-1", secrets.token_bytes(16))
        packed = b"".join(struct.pack(">H", len(each)) + each for each in fields)
        xauthority.write_bytes(struct.pack(">H", 0xFFFF) + packed)
        xauthority.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(xauthority, owner, -1)
        reads, writes = os.pipe()
        server = subprocess.Popen(
            [
                *("Xvfb", "-displayfd", str(writes), "-screen", "0", "1024x768x24"),
                *("-auth", str(xauthority), "-nolisten", "tcp", "-noreset"),
            ],
            pass_fds=[writes],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(writes)
        try:
            with os.fdopen(reads) as told:
                number = told.readline().strip()
            assert number, "Xvfb did not start"
            yield Display(number, xauthority)
        finally:
            server.terminate()
            server.wait(10)
