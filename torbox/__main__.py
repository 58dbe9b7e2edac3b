# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m torbox`."""

import sys

from torbox.cli import main

sys.exit(main())
