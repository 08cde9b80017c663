"""The tiny base: what its parts are, and that they learn what they are trained for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from components.batching.conversation import IGNORED, Encoder
from components.data.schema import IMAGE_MARKER, Turn
from components.model.base import compose
from components.params import TinyBase, TinyLanguage, TinyVision
from components.synthetic.plates import drawing
from components.synthetic.plates.dish import numbers
from components.synthetic.plates.texts import document
from components.synthetic.tiny import base as tiny_base
from components.synthetic.tiny import language as tiny_language
from components.synthetic.tiny import optimiser as tiny_optimiser
from components.synthetic.tiny.base import train_tiny_base, train_tokenizer
from components.synthetic.tiny.language import train_language
from components.synthetic.tiny.vision import Pictures, TextTower, train_vision

SEED, SIZE = 4, 48
VISION = TinyVision(width=32, layers=6, heads=2, patch_size=8, images=128, epochs=8, batch=16, learning_rate=1e-2)
LANGUAGE = TinyLanguage(width=48, layers=2, heads=4, vocabulary=700, texts=480, epochs=1, batch=8, learning_rate=1e-2)


@pytest.fixture(scope="module")
def words() -> Any:
    return train_tokenizer(LANGUAGE.vocabulary, SEED)


def test_tokenizer_keeps_special_tokens_apart_and_gives_offsets(words: Any) -> None:
    assert words.is_fast
    ids = words.convert_tokens_to_ids(["<pad>", "<s>", "</s>", IMAGE_MARKER])
    assert len(set(ids)) == 4
    assert words.unk_token_id not in ids
    assert words("rice")["input_ids"][0] == words.bos_token_id  # as Llama's: v1 and plain then begin with it too
    text = "two tomatoes weigh 160 g, crème brûlée too"
    encoded = words(text, return_offsets_mapping=True, add_special_tokens=False)
    assert words.decode(encoded["input_ids"]) == text
    assert encoded["offset_mapping"][-1][1] == len(text)


def test_tokenizer_takes_digits_one_by_one(words: Any) -> None:
    assert [words.decode([id]).strip() for id in words("450", add_special_tokens=False)["input_ids"]] == list("450")


def test_tokenizer_spells_food_in_one_token(words: Any) -> None:
    for word in (" tomato", " tomatoes", " mushroom", " grilled"):
        assert len(words(word, add_special_tokens=False)["input_ids"]) == 1


@pytest.mark.parametrize("cores", [1, 2, 64])
def test_number_of_cores_does_not_change_the_base(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    """With each number of threads the encoder's training sums in another order."""
    before = torch.get_num_threads()
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    try:
        tiny_base._prepare(SEED)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_training_ends_with_a_base_that_composes() -> None:
    """Both processes, in the sizes of a moment: the pieces fit LLaVA and have the levels that VCE reads."""
    settings = TinyBase(
        vision=VISION.model_copy(update={"images": 32, "epochs": 1}), language=LANGUAGE.model_copy(update={"texts": 16})
    )
    vision, language, tokenizer, processor = train_tiny_base(settings, SIZE, SEED)
    model = compose(vision, language, tokenizer, processor, SEED)
    pixels = torch.from_numpy(processor(drawing.photograph(_dish(), SIZE, numbers(1)).image)["pixel_values"][0])
    states = model.model.vision_tower(pixels[None], output_hidden_states=True).hidden_states
    assert len(states) >= 6
    assert states[-5].shape == (1, 37, VISION.width)
    encoder = Encoder(tokenizer, "v1", model.config.image_token_id, 36)
    encoded = encoder.encode([Turn("human", f"{IMAGE_MARKER}\nWhat?"), Turn("assistant", "A.")], True, 400)
    logits = model(input_ids=torch.tensor([encoded.ids]), pixel_values=pixels[None]).logits
    assert logits.shape == (1, len(encoded.ids), len(tokenizer))
    assert torch.isfinite(logits).all()
    assert not language.config.tie_word_embeddings


def test_language_model_learns_from_text_and_never_sees_a_picture(words: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the language model's training drew a picture")

    monkeypatch.setattr(Image, "new", refuse)
    losses: list[float] = []
    torch.manual_seed(SEED)
    train_language(LANGUAGE, SEED, words, lambda step, note: losses.append(float(note.split()[-1])))
    assert len(losses) == LANGUAGE.texts // LANGUAGE.batch
    assert sum(losses[-8:]) / 8 < 0.5 * losses[0]


def test_language_training_repeats_itself_for_one_seed(words: Any) -> None:
    short = LANGUAGE.model_copy(update={"texts": 32})
    states = []
    for _ in range(2):
        torch.manual_seed(SEED)
        states.append(train_language(short, SEED, words).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_glances_take_one_place_for_each_phrase(words: Any) -> None:
    marker = words.convert_tokens_to_ids(IMAGE_MARKER)
    glanced = 0
    for number in range(60):
        text = document(numbers(1, "glance", number), 0.9)
        encoded = tiny_language._encoded(text, words, 0, lambda phrase: tiny_language._ids(words, f" {phrase}"))
        assert encoded.ids.count(marker) == len(text.glance) == len(encoded.phrases)
        assert all(label == IGNORED for id, label in zip(encoded.ids, encoded.labels, strict=True) if id == marker)
        assert any(label != IGNORED for label in encoded.labels)
        glanced += bool(text.glance)
    assert 10 < glanced < 50


def test_a_place_is_the_sum_of_its_words(words: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_language, "_NOISE", 0.0)
    model = train_language(LANGUAGE.model_copy(update={"texts": 8}), SEED, words)
    marker, one, two = words.convert_tokens_to_ids(IMAGE_MARKER), 70, 90
    text = tiny_language.Text([1, marker, 5], [IGNORED] * 3, [[one, two]])
    embedded = tiny_language._embedded(model, torch.tensor([text.ids]), [text], marker)[0]
    table = model.model.embed_tokens.weight
    assert torch.allclose(embedded, torch.stack([table[1], table[one] + table[two], table[5]]))


def test_encoder_puts_what_lies_there_into_its_patches(words: Any) -> None:
    """On plates it never saw, a linear reading of its patches beats the same reading of an untrained encoder."""
    from transformers import CLIPImageProcessorPil, CLIPVisionModel

    torch.manual_seed(SEED)
    encoder = train_vision(VISION, SIZE, SEED, words, CLIPImageProcessorPil())
    fresh = CLIPVisionModel(encoder.config).eval()
    unseen = Pictures(VISION, SIZE, SEED + 1)
    assert _read_linearly(encoder, unseen) < 0.8 * _read_linearly(fresh, unseen)


def _read_linearly(encoder: nn.Module, pictures: Pictures) -> float:
    """Cross entropy on the second half of a linear map from patches to phrases, fitted on the first half."""
    with torch.no_grad():
        pixels = (pictures.pixels / 127.5 - 1).permute(0, 3, 1, 2)
        patches = F.layer_norm(encoder(pixel_values=pixels, output_hidden_states=True).hidden_states[-2][:, 1:], (32,))
    half = len(patches) // 2
    linear = nn.Linear(32, pictures.targets.shape[-1])
    optimiser = torch.optim.Adam(linear.parameters(), lr=3e-2)

    def loss(part: slice) -> Tensor:
        return F.cross_entropy(linear(patches[part]).flatten(0, 1), pictures.targets[part].flatten(0, 1))

    for _ in range(150):
        optimiser.zero_grad()
        loss(slice(half)).backward()
        optimiser.step()
    return loss(slice(half, None)).item()


def test_text_tower_ignores_padding() -> None:
    tower = TextTower(20, 6, pad=0).eval()
    short, padded = tower(torch.tensor([[3, 4, 5]])), tower(torch.tensor([[3, 4, 5, 0, 0, 0]]))
    assert torch.allclose(short, padded, atol=1e-6)
    assert torch.allclose(short.norm(dim=-1), torch.ones(1))


def test_optimiser_moves_every_parameter_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    optimiser = tiny_optimiser.TinyOptimiser(model[0], [model], 1e-2, num_steps=5)
    assert len(optimiser.parameters) == len(list(model.parameters()))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimiser.step(model(torch.randn(8, 4)).pow(3).sum())
    assert all((old != new).any() for old, new in zip(before, model.parameters(), strict=True))


def test_muon_equals_torchs_up_to_bfloat16() -> None:
    torch.manual_seed(SEED)
    ours = [nn.Parameter(torch.randn(shape)) for shape in ((6, 6), (4, 6), (6, 4), (6, 6))]
    theirs = [nn.Parameter(matrix.detach().clone()) for matrix in ours]
    optimisers = (
        tiny_optimiser.Muon(ours),
        torch.optim.Muon(theirs, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
    )
    start = [matrix.detach().clone() for matrix in ours]
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = 0.1
    for _ in range(3):
        for mine, yours in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            yours.grad = mine.grad.clone()
        for optimiser in optimisers:
            optimiser.step()
    for before, mine, yours in zip(start, ours, theirs, strict=True):
        assert (mine - yours).norm() < 0.02 * (yours - before).norm()


def _dish() -> Any:
    from components.synthetic.plates.dish import draw_dish

    return draw_dish(numbers(SEED, "tests"))
