# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that are right pass, and others are told what is wrong."""

from __future__ import annotations

import pytest

from torbox.profiles import checks


@pytest.mark.parametrize("name", ["a" * 65, "a..b", ".a", "a.", "-a", "a-", "ä", "a_b", "", "a b", "a\n"])
def test_host_names_are_what_the_kernel_and_dns_take(name: str) -> None:
    assert checks.check_host_name(name)


@pytest.mark.parametrize("name", ["host", "a-b", "a.example", "A1", "a" * 63])
def test_good_host_names_pass(name: str) -> None:
    assert not checks.check_host_name(name)


@pytest.mark.parametrize(
    "url", ["tor", "tor://127.0.0.1:9050", "tor+unix:/run/tor/socks", "socks5://u:p@[::1]:1080", ""]
)
def test_upstreams_that_could_be_urls_pass(url: str) -> None:
    assert not checks.check_upstream(url)


@pytest.mark.parametrize("url", ["9tor", "tor:", "tor://a b", "tor\n", "://x", "TOR"])
def test_upstreams_that_are_no_urls_do_not(url: str) -> None:
    assert checks.check_upstream(url)
