# SPDX-License-Identifier: GPL-3.0-or-later
"""Completions for bash, zsh and fish, written from the argument parser: `torbox completion SHELL`.

Each knows commands, options and what an option's value can be; behind `torbox run` it hands over to the
completion of the program that is to be run. Profiles are asked for when somebody wants one, so that new ones
are known. An option or command that is added to the parser is in all three.
"""

from torbox.cli.completions import bash, fish, zsh

SHELLS = {"bash": bash.script, "fish": fish.script, "zsh": zsh.script}

__all__ = ["SHELLS"]
