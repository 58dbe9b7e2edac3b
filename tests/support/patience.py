# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a test waits for what must happen before it says that it does not."""

from __future__ import annotations

import os

# Whoever wants tests to fail sooner than a busy machine might excuse says so: see tests/mutants.
PATIENCE_S = float(os.environ.get("TORBOX_TEST_PATIENCE_S", "10"))
