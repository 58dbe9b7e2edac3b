# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the sandbox hold? Probes run inside a real one and try for what must not be had.

bait      what is laid out on this machine for the time of one run: listeners, a key, a shared memory …
probes    the program that runs inside: it is told of the bait, tries to reach it, and says what it found
report    what came of it: one row a probe, a leak or none
"""
