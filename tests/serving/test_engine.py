"""Rows that come and go answer as each would alone."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from components import params
from components.evaluation.inference.answering import answer
from components.evaluation.inference.assistant import Assistant
from components.evaluation.question import Question
from components.model.assemble import build
from components.model.base import load_base
from components.model.vision_tower import stop_after_last_level
from components.serving import engine as engine_module
from components.serving.engine import Engine
from components.serving.limits import Limits
from components.serving.prepare import make_job
from tests.models import write_tiny_base

LIMITS = Limits(rows=4)
VLORA = params.VLora(width=16, every=1, types=["q", "m"], rank=2, blocks=1, heads=2, alpha_over_rank=1.0)


def tiny_assistant(folder, vlora: params.VLora | None = None) -> Assistant:
    base = load_base(write_tiny_base(folder))
    vce = params.Vce(enabled=True, anchor=-2, levels=[-2, -3], num_heads=2, num_points=2, scale=1.0, start="paper")
    model, _ = build(base, None if vlora else vce, None, vlora)
    torch.manual_seed(3)
    for parameter in model.parameters():  # a fresh tiny model says the same whatever it sees
        parameter.data += torch.randn_like(parameter) * 0.08
    stop_after_last_level(model)
    model.requires_grad_(False).eval()
    return Assistant(model, base.tokenizer, base.image_processor, "v1", "pad")


@pytest.fixture(scope="module", params=[None, VLORA], ids=["projector", "vlora"])
def assistant(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Assistant:
    return tiny_assistant(tmp_path_factory.mktemp("base") / "base", request.param)


@pytest.fixture
def engine(assistant: Assistant):
    made = Engine(assistant, LIMITS)
    yield made
    made.close()
    made.join(20)


def picture(shade: int) -> bytes:
    stream = io.BytesIO()
    shades = [(p * shade) % 256 for p in range(256)]
    Image.linear_gradient("L").resize((40, 30)).point(shades).convert("RGB").save(stream, "PNG")
    return stream.getvalue()


def questions() -> list[Question]:
    asked = []
    for number in range(12):
        image = None if number % 4 == 3 else picture(1 + number % 3)
        text = "What is on the plate? " * (1 + number % 5) + str(number)
        shown = str(number % 3) if image else None
        asked.append(Question(str(number), "", "", text, (), image=image, image_hash=shown))
    return asked


class Heard:
    """The notifications of one job."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.ended = threading.Event()

    def __call__(self, token: int | None) -> None:
        if token is None:
            self.ended.set()
        else:
            self.tokens.append(token)


def ask(engine: Engine, question: Question, max_new_tokens: int, **changes: Any):
    heard = Heard()
    job = make_job(engine, question.text, question.image, max_new_tokens=max_new_tokens, notify=heard, stream=True)
    for name, value in changes.items():
        setattr(job, name, value)
    engine.submit(job)
    return job, heard


def test_answers_equal_those_of_each_question_alone(assistant, engine):
    asked = questions()
    lengths = [3 + 5 * (number % 4) for number in range(len(asked))]
    jobs = []
    for number, (question, length) in enumerate(zip(asked, lengths, strict=True)):
        jobs.append(ask(engine, question, length))
        if number % 3 == 2:
            time.sleep(0.03)  # some join rows that have begun
    assert all(heard.ended.wait(60) for _, heard in jobs)  # then the model is free for this thread
    for (job, heard), question, length in zip(jobs, asked, lengths, strict=True):
        assert job.finish in ("stop", "length"), job.failure
        assert heard.tokens == job.tokens
        text = assistant.tokenizer.decode(job.tokens, skip_special_tokens=True).strip()
        assert text == answer(assistant, [question], batch=1, max_new_tokens=length, max_pixels=10**6)[0]
    assert len({tuple(job.tokens[:3]) for job, _ in jobs}) > 3  # the questions do differ in their answers
    assert engine.images.misses == 3  # one for each image; the other questions begin behind it


def test_a_job_that_fails_leaves_the_others_alone(engine):
    def broken() -> torch.Tensor:
        raise RuntimeError("out of\nmemory")

    first, second = questions()[:2]
    bad, heard_bad = ask(engine, replace(first, image_hash="other"), 4, pixels=broken, image="broken")
    good, heard_good = ask(engine, second, 4)
    assert heard_bad.ended.wait(30)
    assert heard_good.ended.wait(30)
    assert bad.failure == "RuntimeError: out of memory"
    assert good.finish


def test_a_batch_that_fails_ends_its_rows_and_the_engine_goes_on(engine, monkeypatch):
    def failing(*args: Any, **kwargs: Any) -> None:
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(engine_module, "read_on", failing)
        job, heard = ask(engine, questions()[3], 4)
        assert heard.ended.wait(30)
    assert job.failure == "MemoryError: no room"
    job, heard = ask(engine, questions()[3], 4)
    assert heard.ended.wait(30)
    assert job.finish


def test_late_and_abandoned_jobs_end(engine):
    late, heard_late = ask(engine, questions()[0], 400, deadline=time.monotonic() - 1)
    gone, heard_gone = ask(engine, questions()[1], 400)
    gone.cancelled = True
    assert heard_late.ended.wait(30)
    assert heard_gone.ended.wait(30)
    assert late.timed_out
    assert "has gone" in str(gone.failure) or gone.finish


def test_an_engine_that_closes_answers_what_it_has(assistant):
    engine = Engine(assistant, LIMITS)
    jobs = [ask(engine, question, 6) for question in questions()]
    engine.close()
    engine.join(60)
    assert all(job.finish for job, _ in jobs)


def test_the_image_cache_stays_within_its_bytes(assistant):
    engine = Engine(assistant, replace(LIMITS, image_cache_bytes=1))
    for question in questions()[:3]:
        _, heard = ask(engine, question, 2)
        assert heard.ended.wait(30)
    assert len(engine.images) == 0
    assert engine.images.num_bytes == 0
    engine.close()


def test_a_call_runs_between_tokens(engine):
    assert engine.call(lambda: 7).result(timeout=20) == 7
    with pytest.raises(ZeroDivisionError):
        engine.call(lambda: 1 / 0).result(timeout=20)
