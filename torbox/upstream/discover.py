# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Tor: the place named, else the first of the usual ones where something answers as Tor does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torbox.errors import UpstreamError
from torbox.upstream.registry import probe, with_address
from torbox.upstream.url import UpstreamUrl

# In the order in which they are asked: a system's Tor, Tor Browser's, a Debian system's Unix socket.
USUAL_PLACES = (
    UpstreamUrl("tor", host="127.0.0.1", port=9050),
    UpstreamUrl("tor", host="127.0.0.1", port=9150),
    UpstreamUrl("tor", path="/run/tor/socks"),
)
ASK_TIMEOUT_S = 1.0  # on this machine; a Tor that is up answers within a few milliseconds


def discover(
    explicit: UpstreamUrl | None = None,
    *,
    places: Sequence[UpstreamUrl] = USUAL_PLACES,
    ask: Callable[[UpstreamUrl, float], None] = probe,
) -> UpstreamUrl | None:
    """The upstream to use, or None if no Tor answers anywhere.

    One that is named by place, or is not Tor, is taken as it is, its host's name resolved; whether
    it answers is `probe`'s to say. UpstreamError if the name cannot be resolved.
    """
    if explicit is not None and (explicit.has_place or explicit.scheme != "tor"):
        return with_address(explicit)
    for place in places:
        try:
            ask(place, ASK_TIMEOUT_S)
        except UpstreamError:
            continue
        return place
    return None
