# SPDX-License-Identifier: GPL-3.0-or-later
"""Wire formats: one module a protocol, each with `parse` and `emit`, none with any state.

Everything here may come from a hostile guest. The only thing a parser raises is WireError; what it
returns can be used without another check. Offsets count from the start of the buffer a packet was
read into, so that parsing a packet makes no copy and no view of anything but its payload.
"""

from __future__ import annotations


class WireError(Exception):
    """A packet that cannot be understood. The argument is a fixed sentence: it names a counter."""
