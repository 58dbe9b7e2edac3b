# SPDX-License-Identifier: GPL-3.0-or-later
"""From a URL to its upstream: the file name is the registry.

A scheme is a module of this package that offers

    URL: UrlShape                                     what may stand behind the scheme
    def open_upstream(url, reactor, isolation)        the Upstream; called in the worker
    def probe(url, timeout_s)                         UpstreamError if nothing useful answers; called before

Only the module that a URL names is imported, so a new upstream is one new file.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Protocol, cast

from torbox.errors import UpstreamError, UsageError
from torbox.upstream import url as urls
from torbox.upstream.interface import Reactor, Upstream
from torbox.upstream.url import UpstreamUrl, UrlShape

# Schemes of curl's and others' that one here is meant by.
_ELSEWHERE = {"socks5h": "socks5://: the proxy resolves names there already", "socks": "socks5://"}
ADDRESS_TIMEOUT_S = 2.0  # for each of several addresses of one name
PROBE_TIMEOUT_S = 5.0  # an upstream that is up answers in milliseconds; one across a continent in one


class SchemeModule(Protocol):
    URL: UrlShape

    def open_upstream(self, url: UpstreamUrl, reactor: Reactor, isolation: bytes) -> Upstream: ...

    def probe(self, url: UpstreamUrl, timeout_s: float) -> None: ...


def schemes() -> list[str]:
    """Every scheme there is, for messages: all modules of the package are looked at."""
    import pkgutil  # for a wrong URL alone; it costs a millisecond

    package = importlib.import_module("torbox.upstream")
    names = (info.name for info in pkgutil.iter_modules(package.__path__))
    return sorted(
        name for name in names if hasattr(_module(name), "open_upstream") and hasattr(_module(name), "URL")
    )


def load(scheme: str) -> SchemeModule:
    """The module that serves a scheme. UsageError if there is none."""
    name = f"torbox.upstream.{scheme}"
    try:
        module = _module(scheme)
    except ModuleNotFoundError as error:
        if error.name != name:  # the module is there and something that it needs is not
            raise
        module = None
    if module is None or not hasattr(module, "open_upstream") or not hasattr(module, "URL"):
        advice = f"There are {', '.join(schemes())}."
        if scheme in _ELSEWHERE:
            advice = f"Write {_ELSEWHERE[scheme]}."
        raise UsageError(f"upstream: no scheme is called {scheme!r}", advice=advice)
    return cast(SchemeModule, module)


def _module(name: str) -> object:
    return importlib.import_module(f"torbox.upstream.{name}")


def parse_url(text: str) -> UpstreamUrl:
    """The URL of an upstream as the user gave it. UsageError with what to write instead."""
    scheme, unix, rest = urls.split_scheme(text)
    return urls.parse(scheme, unix, rest, load(scheme).URL)


def with_address(url: UpstreamUrl) -> UpstreamUrl:
    """The same URL with an address for its host's name, asked for once, before any worker starts.

    A worker never resolves: its confinement may forbid it, and a look-up per connection would tell
    the resolver when the sandbox talks. Of several addresses the first that answers. UpstreamError.
    """
    if not url.host:
        return url
    import socket  # here, so that parsing a URL costs no import of it

    try:
        found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a host name"
        raise UpstreamError(
            f"upstream {url}: the host {url.host!r} cannot be resolved: {reason}",
            advice="Give its address instead of its name, or correct the name.",
        ) from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses if len(addresses) > 1 else ():
        # localhost is ::1 as well as 127.0.0.1, and a Tor listens on the latter alone
        try:
            socket.create_connection((address, url.port), ADDRESS_TIMEOUT_S).close()
        except OSError:
            continue
        return replace(url, host=address)
    return replace(url, host=addresses[0])


def open_upstream(url: UpstreamUrl, reactor: Reactor, isolation: bytes) -> Upstream:
    """Make the upstream. `isolation`: the sandbox's random bytes, which keep its circuits its own."""
    return load(url.scheme).open_upstream(url, reactor, isolation)


def probe(url: UpstreamUrl, timeout_s: float = PROBE_TIMEOUT_S) -> None:
    """Say before the start that an upstream does not answer: UpstreamError with advice."""
    load(url.scheme).probe(url, timeout_s)
