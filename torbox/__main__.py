# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m torbox`."""

from torbox.cli import command

command()
