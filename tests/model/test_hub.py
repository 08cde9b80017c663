"""A hub that is out of reach: known in seconds, and its cache is used."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from huggingface_hub import constants
from transformers import AutoConfig, AutoModel, CLIPVisionConfig

from components.costs import skeleton
from components.errors import UserError
from components.model import base, hub
from components.tracking import bases

QUICK_S = 5  # huggingface_hub's own way takes 28


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a server that is not there."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_PAUSE_S", 0.1)
    return url


def test_a_hub_id_without_a_hub_is_one_line_in_seconds(away: str) -> None:
    began = time.monotonic()
    said = f"{away} cannot be reached"
    with pytest.raises(UserError, match=rf"base\.compose\.vision 'no/such' cannot be loaded: .*{said}"):
        base._found(AutoModel, "no/such", "base.compose.vision")
    with pytest.raises(UserError, match=rf"base\.compose\.vision 'no/such' cannot be read from the hub .*{said}"):
        skeleton._read("no/such", "base.compose.vision")
    with pytest.raises(UserError, match=rf"no/such at {'0' * 40} cannot be downloaded: .*{said}"):
        bases._downloaded("no/such", "0" * 40)
    assert time.monotonic() - began < QUICK_S


def test_what_the_cache_holds_is_loaded_without_a_hub(
    away: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0" * 40
    kept = tmp_path / "models--some--encoder"
    CLIPVisionConfig(hidden_size=24).save_pretrained(kept / "snapshots" / commit)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    began = time.monotonic()
    assert base._found(AutoConfig, "some/encoder", "base.compose.vision").hidden_size == 24
    assert skeleton._read("some/encoder", "base.compose.vision").hidden_size == 24
    assert bases._downloaded("some/encoder", commit) == kept / "snapshots" / commit
    assert time.monotonic() - began < QUICK_S


def test_a_folder_asks_no_hub(away: str, tmp_path: Path) -> None:
    assert hub.nearest(str(tmp_path)) == str(tmp_path)
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        base._found(AutoConfig, str(tmp_path), "base.compose.vision")
    assert "cannot be reached" not in str(caught.value)


def test_a_server_that_listens_is_reachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert hub.is_reachable(f"http://127.0.0.1:{server.getsockname()[1]}")


def test_behind_a_proxy_the_hub_is_asked_as_ever(away: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    hub.is_reachable.cache_clear()
    assert hub.is_reachable(away)
    hub.is_reachable.cache_clear()
