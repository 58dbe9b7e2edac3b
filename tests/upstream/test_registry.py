# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from torbox import upstream
from torbox.errors import UsageError
from torbox.upstream import registry

ROOT = Path(__file__).parents[2]


def test_the_schemes_are_the_files_that_can_open_an_upstream() -> None:
    assert registry.schemes() == ["block", "direct", "socks5", "tor"]


def test_a_new_scheme_is_one_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "carrier.py").write_text(
        "from torbox.upstream.url import UrlShape\n"
        "URL = UrlShape('carrier://loft:1', default_port=1)\n"
        "def open_upstream(url, reactor, isolation): return url.host\n"
        "def probe(url, timeout_s): pass\n"
    )
    monkeypatch.setattr(upstream, "__path__", [*upstream.__path__, str(tmp_path)])
    try:
        assert "carrier" in registry.schemes()
        url = registry.parse_url("carrier://loft")
        assert (url.host, url.port) == ("loft", 1)
        assert registry.open_upstream(url, None, b"") == "loft"  # type: ignore[arg-type, comparison-overlap]
    finally:
        sys.modules.pop("torbox.upstream.carrier", None)


def test_a_scheme_whose_own_need_is_missing_is_not_called_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needy.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.setattr(upstream, "__path__", [*upstream.__path__, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        registry.parse_url("needy")


def test_an_unknown_scheme_is_told_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        registry.parse_url("gopher://x")
    assert "block, direct, socks5, tor" in caught.value.advice


def test_a_scheme_of_others_is_told_its_name_here() -> None:
    with pytest.raises(UsageError) as caught:
        registry.parse_url("socks5h://me:secret@127.0.0.1:1080")
    assert caught.value.advice == "Write socks5://: the proxy resolves names there already."


def test_only_the_module_that_is_named_is_imported() -> None:
    code = (
        "import sys; from torbox.upstream.registry import parse_url; parse_url('block');"
        "print({'socket', 'torbox.upstream.tor', 'torbox.upstream.socks5'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"
