"""The version behind a name changes while requests are answered."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from types import SimpleNamespace

from components.errors import UserError
from components.serving import app as app_module
from components.serving import slots as slots_module
from components.serving.limits import Limits
from components.serving.loading import load_version
from components.tracking import store
from components.tracking.version_files import MODEL_TAG
from tests.serving.running import MODEL, asking, data_url, running
from tests.serving.tiny_model import make_champion

FEW = Limits(max_body_bytes=20_000, max_pixels=100_000, max_new_tokens=64, rows=8, timeout_s=30)


def test_a_promotion_under_load_loses_no_request(champion, monkeypatch):
    monkeypatch.setattr(app_module, "POLL_S", 0.05)
    got: list[tuple[int, str]] = []
    stop = threading.Event()

    def ask(server, number: int) -> None:
        while not stop.is_set():
            status, answer = server.chat(asking(f"Question {number}?", data_url(3 + number), max_tokens=12))
            got.append((status, answer.get("system_fingerprint", str(answer))))

    with running(limits=FEW) as server:
        threads = [threading.Thread(target=ask, args=(server, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for number in (2, 1, 2):
            make_champion(number)
            deadline = time.monotonic() + 30
            while server.slots.by_id[MODEL].running.name != f"lea/{number}" and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(0.2)
        stop.set()
        for thread in threads:
            thread.join(30)
        assert {status for status, _ in got} == {200}
        assert {name for _, name in got} == {"lea/1", "lea/2"}
        assert got[-1][1] == "lea/2"
        assert not server.slots.by_id[MODEL]._draining


def test_an_old_version_is_freed_when_it_has_drained(champion):
    with running(limits=FEW) as server:
        slot = server.slots.by_id[MODEL]
        server.chat(asking(image=data_url()))
        old, thread = weakref.ref(slot.running.loaded.assistant.model), slot.running.engine
        make_champion(2)
        with slot.use():
            assert slot.follow()
            assert old() is not None  # it still answers
        thread.join(20)
        del thread
        gc.collect()
        assert old() is None


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_answering(champion, monkeypatch, capsys):
    def failing(*args):
        raise UserError("the files are damaged")

    with running(limits=FEW) as server:
        monkeypatch.setattr(slots_module, "load_version", failing)
        make_champion(2)
        slot = server.slots.by_id[MODEL]
        assert not slot.follow()
        assert not slot.follow()  # nor is it tried at each look
        assert capsys.readouterr().err.count("the files are damaged; version 1 goes on answering") == 1
        assert server.chat(asking())[1]["system_fingerprint"] == "lea/1"


def test_a_model_that_was_deleted_and_made_again_takes_over_under_its_old_number(champion, monkeypatch):
    with running(("lea@champion", "models:/lea@champion"), FEW) as server:
        (slot,) = server.slots.by_id.values()
        other = store.connect().get_model_version("lea", "2")
        made_again = SimpleNamespace(name="lea", version="1", tags={**other.tags})
        monkeypatch.setattr(slots_module, "find_version", lambda uri: made_again)
        monkeypatch.setattr(slots_module, "load_version", lambda version, others: load_version(other, others))
        assert slot.follow()
        assert slot.running.loaded.digest == other.tags[MODEL_TAG]
        assert server.chat(asking())[0] == 200


def test_several_models_hold_their_base_once(champion):
    with running(("lea@champion", "models:/lea/2"), FEW) as server:
        one, two = (slot.running.loaded.assistant.model for slot in server.slots.by_id.values())
        shared = {parameter.data_ptr() for parameter in one.parameters()}
        own = sum(p.numel() for p in two.parameters() if p.data_ptr() not in shared)
        assert 0 < own < 0.3 * sum(p.numel() for p in two.parameters())
        answers = {model: server.chat(asking(image=data_url(), model=model))[1] for model in ("lea@champion", "lea/2")}
        assert [answer["system_fingerprint"] for answer in answers.values()] == ["lea/1", "lea/2"]
        assert server.chat(asking(model="lea"))[0] == 404  # two have that name
