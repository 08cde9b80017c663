"""Batched answers equal one-at-a-time `generate` in fp32, on a tiny LLaVA with random weights."""

import copy
import io
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import MistralConfig, MistralForCausalLM

from components.evaluation.inference import answering, stepped
from components.evaluation.inference.assistant import Assistant
from components.evaluation.inference.journal import Answered, Failed
from components.evaluation.question import Question
from components.images.decoding import ImageError
from components.images.transforms import pixel_values
from components.model.assemble import add_connector
from components.model.base import compose
from components.params import Params
from tests.models import tiny_pieces

SETTINGS = {"max_new_tokens": 24, "max_pixels": 10_000}
NUM_IMAGES = 4
Draw = Callable[[int], bytes]


@pytest.fixture(scope="module")
def asked(picture: Draw) -> list[Question]:
    """Three questions on each of four images, of different lengths, and six without an image."""
    random = np.random.default_rng(5)
    questions = []
    for number in range(18):
        text = " ".join(f"word{word}" for word in random.integers(0, 60, size=random.integers(1, 9)))
        shown = number % 6
        image = picture(shown) if shown < NUM_IMAGES else None
        questions.append(
            Question(str(number), "x", "chat", text, (), image=image, image_hash=f"{shown}" if image else None)
        )
    return questions


@pytest.fixture(scope="module")
def expected(assistant: Assistant, asked: list[Question]) -> list[str]:
    return [alone(assistant, question) for question in asked]


def alone(assistant: Assistant, question: Question) -> str:
    ids = assistant.encoder.prompt(question.text, question.image is not None)
    inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    if question.image is not None:
        image = Image.open(io.BytesIO(question.image)).convert("RGB")
        inputs["pixel_values"] = pixel_values([image], assistant.image_processor, "pad")
    model: Any = assistant.model
    tokens = model.generate(**inputs, do_sample=False, max_new_tokens=SETTINGS["max_new_tokens"])
    return assistant.tokenizer.decode(tokens[0, len(ids) :], skip_special_tokens=True).strip()


def test_expected_answers_are_of_all_kinds(expected: list[str]) -> None:
    """Otherwise the comparison below could not fail."""
    lengths = {len(text.split()) for text in expected}
    assert min(lengths) < SETTINGS["max_new_tokens"] == max(lengths)
    assert len(set(expected)) > 6


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_batched_answers_equal_generate_alone(
    assistant: Assistant, asked: list[Question], expected: list[str], batch: int
) -> None:
    assert answering.answer(assistant, asked, batch=batch, **SETTINGS) == expected


@pytest.mark.parametrize("window", [40, 4096])
def test_a_sliding_window_counts_no_padding(asked: list[Question], window: int) -> None:
    vision, _, tokenizer, processor = tiny_pieces()
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    config = MistralConfig(**sizes, **heads, vocab_size=len(tokenizer), sliding_window=window, pad_token_id=0)
    language = MistralForCausalLM(config)
    for parameter in language.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model = compose(vision, language, tokenizer, processor, seed=0).eval()
    add_connector(model, None)
    windowed = Assistant(model, tokenizer, processor, "v1", "pad")
    few = asked[::3]
    assert min(len(windowed.encoder.prompt(question.text, False)) for question in few) > 40
    assert answering.answer(windowed, few, batch=64, **SETTINGS) == [alone(windowed, question) for question in few]


@pytest.mark.parametrize("batch", [1, 5, 64])
@pytest.mark.parametrize("step", [4, 128])
def test_decoding_in_fixed_shapes_gives_the_same_answers(
    assistant: Assistant,
    asked: list[Question],
    expected: list[str],
    batch: int,
    step: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stepped, "STEP", step)  # 4: the cache grows several times within an answer
    monkeypatch.setattr(answering, "decode_greedily", stepped.decode_in_steps)
    assert answering.answer(assistant, asked, batch=batch, **SETTINGS) == expected


def test_images_that_threads_decode_for_a_gpu_come_in_their_order(assistant: Assistant, asked: list[Question]) -> None:
    images = [question.image for question in asked if question.image is not None]
    assert len(set(images)) > 2
    one_by_one = answering._pixels(assistant, images, SETTINGS["max_pixels"])
    on_gpu: Any = SimpleNamespace(
        model=SimpleNamespace(device=torch.device("cuda")),
        image_processor=assistant.image_processor,
        image=assistant.image,
    )
    assert torch.equal(torch.cat(answering._pixels(on_gpu, images, SETTINGS["max_pixels"])), torch.cat(one_by_one))


def test_a_step_in_fixed_shapes_reads_no_value_on_the_host(assistant: Assistant, asked: list[Question]) -> None:
    """On a GPU each such read waits for the device."""
    aten = torch.ops.aten
    reads = (aten.is_nonzero.default, aten.item.default, aten._local_scalar_dense.default)

    class Watch(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.seen += func in reads
            return func(*args, **(kwargs or {}))

    prompts = [assistant.encoder.prompt(question.text, question.image is not None) for question in asked]
    with torch.inference_mode():
        read = answering.prefill(assistant, asked, prompts, [[0, 6, 12]], max_pixels=SETTINGS["max_pixels"])
        state = stepped.SteppedDecoding(assistant.model, read, answering.stop_tokens(assistant), 24)
        with Watch() as watch:
            state.step()
        assert watch.seen == 0
        with Watch() as watch:
            bool(state.ended.all())
        assert watch.seen == 1


@pytest.mark.parametrize("batch", [5, 64])
def test_images_as_weights_give_the_answers_of_generate_alone(
    assistant: Assistant, asked: list[Question], expected: list[str], params: Params, batch: int
) -> None:
    model = copy.deepcopy(assistant.model)
    torch.manual_seed(2)
    add_connector(model, None, params.connector.vlora)
    for name, parameter in model.model.multi_modal_projector.named_parameters():
        if ".up." in name:
            torch.nn.init.normal_(parameter, std=0.5)
    seeing = replace(assistant, model=model.eval())
    answers = answering.answer(seeing, asked, batch=batch, **SETTINGS)
    assert answers == [alone(seeing, question) for question in asked]
    blind = [place for place, question in enumerate(asked) if question.image is None]
    assert [answers[place] for place in blind] == [expected[place] for place in blind]
    assert len({answers[place] for place in range(NUM_IMAGES)}) > 1


def test_image_changes_the_answer(assistant: Assistant, picture: Draw) -> None:
    here, other = (Question("1", "x", "chat", "word1", (), image=picture(n), image_hash=str(n)) for n in (1, 2))
    first, second = answering.answer(assistant, [here, other], batch=8, **SETTINGS)
    assert first != second


def test_one_image_is_read_once_for_all_its_questions(
    assistant: Assistant, asked: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    tower = assistant.model.model.vision_tower
    monkeypatch.setattr(tower, "forward", lambda *a, _f=tower.forward, **k: read.append(len(a[0])) or _f(*a, **k))
    answering.answer(assistant, asked, batch=64, **SETTINGS)
    assert read == [NUM_IMAGES]


def test_batches_hold_no_more_questions_than_allowed(assistant: Assistant, asked: list[Question]) -> None:
    sizes = [len(batch) for batch in answering.answers_by_batch(assistant, asked, batch=5, **SETTINGS)]
    assert max(sizes) <= 5
    assert sum(sizes) == len(asked)


def test_no_question_gives_no_answer(assistant: Assistant) -> None:
    assert answering.answer(assistant, [], batch=5, **SETTINGS) == []


def test_question_that_fails_is_the_only_one_without_an_answer(
    assistant: Assistant, asked: list[Question], expected: list[str]
) -> None:
    """Among the others of its image, and whatever batch it stands in."""
    broken = [replace(question, image=b"no image") if question.id == "7" else question for question in asked]
    broken[1] = replace(broken[1], image_hash="another")
    broken[7] = replace(broken[7], image_hash="broken")
    answers: dict[int, Answered] = {}
    for batch in answering.answers_by_batch(assistant, broken, batch=64, **SETTINGS):
        answers |= batch
    failure = answers.pop(7)
    assert isinstance(failure, Failed)
    assert failure.reason.startswith("ImageError: image_corrupt")
    assert answers == {place: text for place, text in enumerate(expected) if place != 7}


def test_answer_raises_what_goes_wrong(assistant: Assistant) -> None:
    with pytest.raises(ImageError):
        answering.answer(
            assistant, [Question("1", "x", "chat", "word1", (), image=b"", image_hash="1")], batch=4, **SETTINGS
        )


def test_question_that_breaks_its_image_s_batch_is_found(
    assistant: Assistant, asked: list[Question], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three questions of one image, of which the model cannot read one."""
    prefill = answering.prefill

    def picky(assistant: Assistant, asked: list[Question], prompts: Any, groups: Any, max_pixels: int) -> Any:
        if any(asked[place].id == "6" for group in groups for place in group):
            raise MemoryError("too long")
        return prefill(assistant, asked, prompts, groups, max_pixels)

    monkeypatch.setattr(answering, "prefill", picky)
    answers: dict[int, Answered] = {}
    for batch in answering.answers_by_batch(assistant, asked, batch=64, **SETTINGS):
        answers |= batch
    assert answers == {**dict(enumerate(expected)), 6: Failed("MemoryError: too long")}


def test_prompts_of_any_length_are_read_without_plans_for_each_on_gpus() -> None:
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with stepped.attention_without_plans(torch.device("cuda")):
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled() == before


@pytest.mark.parametrize(("most", "steps", "captured"), [(200, 3, True), (200, 2, False), (10, 3, False)])
def test_graph_is_captured_where_enough_steps_can_follow(
    assistant: Assistant, asked: list[Question], most: int, steps: int, captured: bool
) -> None:
    prompts = [assistant.encoder.prompt(question.text, question.image is not None) for question in asked]
    with torch.inference_mode():
        read = answering.prefill(assistant, asked, prompts, [[0, 6, 12]], max_pixels=SETTINGS["max_pixels"])
        state = stepped.SteppedDecoding(assistant.model, read, frozenset({0}), most)
        for _ in range(steps):
            state.step()
    assert not state.captures_next  # nothing is, on a CPU
    state._captured = True
    assert state.captures_next == captured
