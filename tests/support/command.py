# SPDX-License-Identifier: GPL-3.0-or-later
"""How a command of the tests ends: with an exit code, and by ^C without a word."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

INTERRUPTED = 130  # 128 and SIGINT, as shells have it


def run(main: Callable[[], int]) -> NoReturn:
    try:
        code = main()
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)
