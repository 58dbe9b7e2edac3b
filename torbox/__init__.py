# SPDX-License-Identifier: GPL-3.0-or-later
"""torbox: run any program in a rootless sandbox whose only way out is Tor."""

__version__ = "0.1.0"
