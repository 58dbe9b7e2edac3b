# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from torbox.netstack.flow import Refusal
from torbox.upstream.vital_sign import VitalSign


class Greeting:
    aborted = False

    def pump(self) -> bool:
        return False

    def shutdown(self) -> None: ...

    def abort(self) -> None:
        self.aborted = True


def test_those_that_ask_during_a_check_share_the_next() -> None:
    begun: list[Greeting] = []
    heard: list[tuple[str, bool]] = []

    def begin(owner: VitalSign) -> Greeting:
        begun.append(Greeting())
        return begun[-1]

    sign = VitalSign(begin)
    sign.ask(lambda lives: heard.append(("a", lives)))
    sign.ask(lambda lives: heard.append(("b", lives)))
    sign.ask(lambda lives: heard.append(("c", lives)))
    assert len(begun) == 1
    assert heard == []
    sign.connected()
    assert heard == [("a", True)]
    assert begun[0].aborted
    assert len(begun) == 2
    sign.refused(Refusal.NET_UNREACHABLE)
    assert heard[1:] == [("b", False), ("c", False)]
    assert len(begun) == 2


def test_one_who_asks_again_from_within_the_verdict_is_heard() -> None:
    begun: list[Greeting] = []
    heard: list[bool] = []

    def begin(owner: VitalSign) -> Greeting:
        begun.append(Greeting())
        return begun[-1]

    sign = VitalSign(begin)
    sign.ask(lambda lives: sign.ask(heard.append))
    sign.connected()
    assert heard == []
    sign.connected()
    assert heard == [True]
    assert len(begun) == 2
