# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a datagram may be cut into fragments on its way; all else of UDP is in test_stack.py."""

from __future__ import annotations

import pytest

from tests.netstack.test_stack import GATEWAYS, GUESTS, VERSIONS, World
from torbox.netstack.flow import FlowKey
from torbox.netstack.wire import ip, ipv4, ipv6, udp


class Watching(World):
    def __init__(self, version: int) -> None:
        super().__init__(version)
        self.may_fragment: list[bool] = []

    def udp_arrived(self, key: FlowKey, payload: memoryview) -> bool:
        self.may_fragment.append(self.stack.datagram_may_fragment)
        return True


@VERSIONS
def test_a_datagram_that_came_in_fragments_may_go_in_fragments_and_the_next_one_may_not(version: int) -> None:
    world = Watching(version)
    form = ipv4 if version == 4 else ipv6
    addresses = GUESTS[version] + GATEWAYS[version]
    for piece in form.fragments(addresses, ip.UDP, udp.emit(addresses, 1, 2, b"y" * 3000), 1280, 5):
        world.guest.send(piece)
    world.guest.send_datagram(GATEWAYS[version], (1, 2), b"whole")
    world.turn()
    assert world.may_fragment == [True, False]


@pytest.mark.parametrize("flags", [0, ipv4.DONT_FRAGMENT])
def test_an_ipv4_datagram_says_by_itself_whether_it_may(flags: int) -> None:
    world = Watching(4)
    addresses = GUESTS[4] + GATEWAYS[4]
    data = udp.emit(addresses, 1, 2, b"x")
    world.guest.send(ipv4.emit(addresses, ip.UDP, len(data), flags=flags) + data)
    world.turn()
    assert world.may_fragment == [not flags]
