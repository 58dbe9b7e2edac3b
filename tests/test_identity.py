# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox's /etc says what it should, and never asks a daemon of the host."""

from __future__ import annotations

from torbox import identity


def test_hosts_names_loopback_the_sandbox_and_the_profiles_entries() -> None:
    text = identity.hosts("torbox", {"printer.example": ("203.0.113.7", "2001:db8::7")})
    assert "127.0.0.1 localhost\n" in text
    assert "127.0.1.1 torbox\n" in text
    assert text.endswith("203.0.113.7 printer.example\n2001:db8::7 printer.example\n")


def test_names_are_looked_up_in_files_and_dns_only() -> None:
    lines = identity.nsswitch_conf().splitlines()
    assert "hosts: files dns" in lines
    assert all(line.split(":")[1].split() in (["files"], ["files", "dns"]) for line in lines)


def test_resolv_conf_names_the_gateway_alone() -> None:
    servers = [
        line for line in identity.resolv_conf("10.0.2.2").splitlines() if line.startswith("nameserver")
    ]
    assert servers == ["nameserver 10.0.2.2"]


def test_passwd_and_group_know_the_user() -> None:
    assert "user:x:1000:1000:user:/home/user:/bin/bash\n" in identity.passwd(
        "user", 1000, 1000, "/home/user", "/bin/bash"
    )
    assert "user:x:1000:\n" in identity.group("user", 1000)


def test_the_machine_id_has_the_form_of_one() -> None:
    assert len(identity.MACHINE_ID) == 32
    assert set(identity.MACHINE_ID) <= set("0123456789abcdef")
