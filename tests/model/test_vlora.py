"""VLoRA in a whole model: rows with and without image, shared prefixes, the cache, adapters on the same layers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from components import params as settings_of
from components.batching.conversation import IGNORED, Encoded
from components.batching.packing import pack, pad
from components.errors import UserError
from components.evaluation.inference.assistant import load_assistant
from components.model.assemble import build, trainable_groups
from components.model.base import Base, compose, load_base
from components.model.connector import picture
from components.model.weights import save_parts
from components.params import Params, VLora
from components.training.loss import SupervisedLoss
from tests.models import tiny_pieces, write_tiny_base

ADAPTERS = [None, "lora", "dual_lora"]


@pytest.fixture
def vlora(params: Params) -> VLora:
    small = {"width": 16, "heads": 2, "rank": 3, "every": 1, "alpha_over_rank": 0.5}
    return params.connector.vlora.model_copy(update=small)


def make(
    params: Params, vlora: VLora | None, adapter: str | None = None, vce: Any = None, **more: Any
) -> tuple[Any, Any]:
    """A tiny model in float64, every trained tensor away from its start."""
    vision, language, tokenizer, processor = tiny_pieces()
    model = compose(vision, language, tokenizer, processor, seed=0).double()
    chosen = params.adapter.model_copy(update={"kind": adapter, "dropout": 0.0}) if adapter else None
    torch.manual_seed(3)
    model, wrapped = build(Base(model, tokenizer, processor, {}), vce, chosen, vlora, **more)
    model = model.double().eval()  # pyright: ignore
    stir(model)
    return model, wrapped


def stir(model: Any) -> None:
    torch.manual_seed(4)
    for members in trainable_groups(model).values():
        for _, parameter in members:
            nn.init.normal_(parameter, std=0.15)


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


IDS = torch.tensor([[1, 9, 20, 21, 30, 31], [1, 9, 40, 41, 42, 43], [1, 50, 51, 52, 53, 54]])


@torch.no_grad()
def logits(model: Any, ids: Tensor, pixels: Tensor | None = None) -> Tensor:
    return model(input_ids=ids, **({} if pixels is None else {"pixel_values": pixels})).logits


class Beside(nn.Module):
    """A twin's MLP: what it did, and a linear map of its input."""

    def __init__(self, mlp: nn.Module, added: Tensor) -> None:
        super().__init__()
        self.mlp, self.added = mlp, added

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x) + x @ self.added


def merged(model: Any, twin: Any, pixels: Tensor) -> Any:
    """`twin`, a model without VLoRA, with W + (alpha / rank) A B of one image in its weights (paper, equation 6)."""
    head = model.model.multi_modal_projector.head
    with torch.no_grad():
        model.get_image_features(pixel_values=pixels)
    for block, layer in enumerate(twin.model.language_model.layers):
        for name, kind in head.generator.types.items():
            added = head.scale * head.current.made[name][0, block] @ kind.up[block].weight.T
            if name == "m":
                layer.mlp = Beside(layer.mlp, added)
            else:
                linear = layer.get_submodule(f"self_attn.{name}_proj")
                getattr(linear, "base_layer", linear).weight.data += added.T
    return twin


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_image_changes_the_model_like_merged_weights(params: Params, vlora: VLora, adapter: str | None) -> None:
    model, _ = make(params, vlora, adapter)
    plain, _ = make(params, None, adapter)
    own = {n: p for n, p in model.named_parameters() if "multi_modal_projector" not in n}
    plain.load_state_dict(own, strict=False)
    pixels = images(2)
    seen = logits(model, IDS[:2], pixels)
    for row in range(2):
        twin = merged(model, copy.deepcopy(plain), pixels[row : row + 1])
        torch.testing.assert_close(seen[row], logits(twin, IDS[row : row + 1])[0], rtol=1e-6, atol=1e-6)
    assert (seen[0] - logits(plain, IDS[:1])[0]).abs().max() > 1e-2


def test_every_fourth_block_of_32_gets_weights(params: Params, vlora: VLora) -> None:
    vision, language, tokenizer, processor = tiny_pieces()
    language.model.layers = nn.ModuleList(copy.deepcopy(language.model.layers[0]) for _ in range(32))
    language.config.num_hidden_layers = 32
    model = compose(vision, language, tokenizer, processor, seed=0)
    build(Base(model, tokenizer, processor, {}), None, None, vlora.model_copy(update={"every": 4}))
    layers: Any = model.model.language_model.layers
    hooked = [n for n, layer in enumerate(layers) if layer.self_attn.q_proj._forward_hooks]
    assert hooked == [3, 7, 11, 15, 19, 23, 27, 31]
    assert hooked == [n for n, layer in enumerate(layers) if layer.mlp._forward_hooks]


def test_fresh_generator_changes_nothing(params: Params, vlora: VLora) -> None:
    vision, language, tokenizer, processor = tiny_pieces()
    plain = compose(vision, language, tokenizer, processor, seed=0).eval()
    before = logits(plain, IDS)
    model, _ = build(Base(plain, tokenizer, processor, {}), None, params.adapter, vlora)
    assert torch.equal(logits(model.eval(), IDS, images(3).float()), before)


def test_rows_without_image_are_untouched_to_the_bit(params: Params, vlora: VLora) -> None:
    model, _ = make(params, vlora, "dual_lora")
    has_image = torch.tensor([True, False, True])
    with torch.no_grad():
        mixed = model(input_ids=IDS, **picture(model, images(2), has_image)).logits
    text = logits(model, IDS)
    assert torch.equal(mixed[1], text[1])
    both = logits(model, IDS[[0, 2]], images(2))
    torch.testing.assert_close(mixed[[0, 2]], both, rtol=1e-9, atol=1e-9)
    assert (both[0] - text[0]).abs().max() > 1e-2


def test_no_visual_token_reaches_the_language_model(params: Params, vlora: VLora) -> None:
    model, _ = make(params, vlora)
    assert model.config.image_seq_length == 0
    lengths = []
    hook = model.model.language_model.register_forward_pre_hook(
        lambda _, inputs, named: lengths.append(named["inputs_embeds"].shape[1]), with_kwargs=True
    )
    logits(model, IDS, images(3))
    hook.remove()
    assert lengths == [IDS.shape[1]]


def test_cached_decoding_equals_a_full_forward(params: Params, vlora: VLora) -> None:
    model, _ = make(params, vlora, "lora")
    whole = logits(model, IDS, images(3))
    with torch.no_grad():
        start = model(input_ids=IDS[:, :3], pixel_values=images(3), use_cache=True)
        steps = [start.logits[:, -1]]
        for place in range(3, IDS.shape[1]):
            step = model(input_ids=IDS[:, place : place + 1], past_key_values=start.past_key_values, use_cache=True)
            steps.append(step.logits[:, -1])
    torch.testing.assert_close(torch.stack(steps, 1), whole[:, 2:], rtol=1e-6, atol=1e-6)
    assert torch.equal(logits(model, IDS), logits(model, IDS))  # and nothing stays behind
    assert model.model.multi_modal_projector.head.current is None


@torch.no_grad()
def test_conversations_between_cached_steps_change_nothing(params: Params, vlora: VLora) -> None:
    model, _ = make(params, vlora, "lora")
    whole = logits(model, IDS, images(3))[:, 3:]
    cache = model(input_ids=IDS[:, :3], pixel_values=images(3), use_cache=True).past_key_values
    text = model(input_ids=IDS[:1, :3], use_cache=True).past_key_values
    branch = copy.deepcopy(cache)
    logits(model, IDS[:2], images(2).flip(0))
    for kept in (cache, branch):
        step = model(input_ids=IDS[:, 3:], past_key_values=kept, use_cache=True).logits
        torch.testing.assert_close(step, whole, rtol=1e-6, atol=1e-6)
    step = model(input_ids=IDS[:1, 3:], past_key_values=text, use_cache=True).logits
    torch.testing.assert_close(step, logits(model, IDS[:1])[:, 3:], rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_cache_of_another_model_is_refused(params: Params, vlora: VLora) -> None:
    model, _ = make(params, vlora)
    cache = model.model.language_model(input_ids=IDS[:, :3], use_cache=True).past_key_values
    with pytest.raises(ValueError, match="the cache was not filled by this model; give the rows' perceptual_weights"):
        model(input_ids=IDS[:, 3:], past_key_values=cache, use_cache=True)


def test_copy_of_a_model_has_its_own_weights(params: Params, vlora: VLora) -> None:
    model, _ = make(params, vlora)
    before = logits(model, IDS, images(3))
    twin = copy.deepcopy(model)
    stir(twin.double())
    nn.init.zeros_(model.model.multi_modal_projector.head.generator.types["q"].up[0].weight)
    twin_before = logits(twin, IDS, images(3))
    assert (twin_before - before).abs().max() < 1e-9
    assert (logits(model, IDS, images(3)) - before).abs().max() > 1e-4


@pytest.mark.parametrize("count", [1, 3])
def test_other_number_of_images_than_of_rows_is_refused(params: Params, vlora: VLora, count: int) -> None:
    model, _ = make(params, vlora)
    with pytest.raises(ValueError, match=f"perceptual weights of {count} rows were given for 2 rows"):
        logits(model, IDS[:2], images(count))
    with pytest.raises(ValueError, match=f"weights of {count} images were given for 2 rows with an image"):
        picture(model, images(count), torch.tensor([True, False, True]))


@pytest.mark.parametrize("how", [{"num_beams": 2}, {"num_beams": 2, "num_return_sequences": 2}])
def test_generate_repeats_rows_with_their_images(params: Params, vlora: VLora, how: dict[str, int]) -> None:
    model, _ = make(params, vlora)
    settings = {**how, "max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "output_scores": True}
    settings["return_dict_in_generate"] = True
    ids = IDS[:1].expand(2, -1)  # only the images tell the rows apart
    both = model.generate(input_ids=ids, pixel_values=images(2), **settings)
    assert (both.sequences_scores[0] - both.sequences_scores[-1]).abs() > 1e-6
    every = how.get("num_return_sequences", 1)
    for row in range(2):
        alone = model.generate(input_ids=ids[:1], pixel_values=images(2)[row : row + 1], **settings)
        mine = slice(row * every, (row + 1) * every)
        assert torch.equal(both.sequences[mine], alone.sequences)
        torch.testing.assert_close(both.sequences_scores[mine], alone.sequences_scores, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_generate_without_a_cache_sees_the_images_in_every_step(params: Params, vlora: VLora) -> None:
    model, _ = make(params, vlora)
    settings = {"pixel_values": images(2), "max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    cached, whole = (model.generate(input_ids=IDS[:2], use_cache=cache, **settings) for cache in (True, False))
    assert torch.equal(cached, whole)


@torch.no_grad()
def test_image_outputs_of_before_another_call_are_refused(params: Params, vlora: VLora) -> None:
    model, _ = make(params, vlora)
    encoded = model.get_image_features(pixel_values=images(2))
    logits(model, IDS)
    with pytest.raises(ValueError, match="were made before another call; give pixel_values"):
        model(input_ids=IDS[:2], mm_encoder_outputs={"image": encoded})


@pytest.mark.parametrize("between", ["another image", "text"])
def test_recomputed_blocks_see_the_weights_of_their_own_call(params: Params, vlora: VLora, between: str) -> None:
    model, _ = make(params, vlora, "dual_lora")
    model.train()

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        loss = model(input_ids=IDS[:1], pixel_values=images(1)).logits.square().mean()
        if between == "text":
            logits(model, IDS)
        else:
            loss = loss + model(input_ids=IDS[:1], pixel_values=-images(1)).logits.square().mean()
        loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    kept = gradients()
    model.model.language_model.activation_checkpointing_enable({"use_reentrant": False})
    again = gradients()
    assert kept.keys() == again.keys()
    for name, gradient in kept.items():
        assert (again[name] - gradient).norm() <= 1e-9 * gradient.norm() + 1e-12, name


def sample(question: list[int], answer: list[int]) -> Encoded:
    ids = [1, 9, *question, *answer]
    return Encoded(ids, [IGNORED] * (2 + len(question)) + answer)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_shared_prefix_equals_separate_samples(params: Params, vlora: VLora, checkpointing: bool) -> None:
    model, _ = make(params, vlora, "dual_lora")
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    loss = SupervisedLoss(model)
    three = [sample([20, 21], [30, 31, 2]), sample([20, 24], [40, 41, 2]), sample([], [50, 2])]
    text = sample([60, 61], [62, 2])

    def gradients(sequences: list[Any], pixels: Tensor) -> tuple[float, dict[str, Tensor]]:
        model.zero_grad()
        has_image = torch.tensor([True] * len(pixels) + [False])
        value = loss({**pad([*sequences, pack([text])], filler=2), "has_image": has_image}, pixels)
        value.backward()
        return value.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    shared_loss, shared = gradients([pack(three)], images(1))
    separate_loss, separate = gradients([pack([one]) for one in three], images(1).expand(3, -1, -1, -1))
    assert shared_loss == pytest.approx(separate_loss, rel=1e-6)
    assert shared.keys() == separate.keys()
    for name, gradient in separate.items():
        assert (shared[name] - gradient).norm() <= 1e-6 * gradient.norm() + 1e-12, name


def test_gradients_reach_generator_cue_and_adapter_alone(params: Params, vlora: VLora) -> None:
    vce = params.vce.model_copy(update={"levels": [-2, -3], "num_heads": 2, "num_points": 2})
    model, _ = make(params, vlora, "dual_lora", vce)
    groups = trainable_groups(model)
    assert set(groups) == {"vlora", "vce", "adapter"}
    tokens = {**pad([pack([sample([20], [30, 2])])], filler=2), "has_image": torch.tensor([True])}
    SupervisedLoss(model)(tokens, images(1)).backward()
    named = {name for members in groups.values() for name, _ in members}
    assert {name for name, p in model.named_parameters() if p.grad is not None} == named
    for part, members in groups.items():
        assert sum(bool(p.grad.any()) for _, p in members) > 0.8 * len(members), part  # pyright: ignore


def test_text_only_batch_gives_every_part_a_gradient_of_zero(params: Params, vlora: VLora) -> None:
    # under ZeRO-3 a rank that leaves a part out would keep the others waiting
    model, _ = make(params, vlora, "lora")
    tokens = {**pad([pack([sample([20], [30, 2])])], filler=2), "has_image": torch.tensor([False])}
    SupervisedLoss(model)(tokens, None).backward()
    for name, parameter in trainable_groups(model)["vlora"]:
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_autocast_stays_near_full_precision(params: Params, vlora: VLora) -> None:
    model, _ = make(params, vlora, "dual_lora")
    model.float()
    exact = logits(model, IDS, images(3).float())
    with torch.autocast("cpu", torch.bfloat16):
        rough = logits(model, IDS, images(3).float())
    assert (rough - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize("trained", ["adapter", "language_model"])
def test_stored_parts_give_the_same_model_to_the_bit(
    params: Params, vlora: VLora, trained: str, tmp_path: Path
) -> None:
    folder = write_tiny_base(tmp_path / "base")
    base = load_base(folder)
    adapter = params.adapter if trained == "adapter" else None
    model, wrapped = build(base, None, adapter, vlora, train_language_model=adapter is None)
    stir(model)
    assert set(trainable_groups(model)) == {"vlora", trained}
    weights = {name: p.detach() for group in trainable_groups(model).values() for name, p in group}
    own = {
        "base": base.reference,
        "vce": None,
        "vlora": vlora.model_dump(),
        "adapter": adapter.model_dump() if adapter else None,
        "language_model": "frozen" if adapter else "trained",
    }
    parts = tmp_path / "parts"
    parts.mkdir()
    save_parts(parts, own, weights, wrapped)
    again = load_assistant(folder, parts).model
    pixels = images(3).float()
    model.eval().requires_grad_(False)  # torch's attention takes another path through weights that may be trained
    assert torch.equal(logits(again, IDS, pixels), logits(model, IDS, pixels))

    for file in sorted(parts.glob("*.safetensors")):
        tensors = load_file(file)
        gone = sorted(tensors)[0]
        save_file({name: tensor for name, tensor in tensors.items() if name != gone}, file)
        with pytest.raises(UserError, match=rf"{file.name} does not fit the settings: {gone}"):
            load_assistant(folder, parts)
        save_file(tensors, file)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"heads": 3}, "width 64 must be a multiple of heads \\(3\\)"),
        ({"types": ["q", "q"]}, "must name each type once"),
        ({"types": ["q", "w"]}, "connector.vlora.types.1 must be 'q', 'k', 'v', 'o' or 'm', got 'w'"),
        ({"rank": 0}, "connector.vlora.rank must be at least 1, got 0"),
    ],
)
def test_settings_that_do_not_fit_give_one_line(params: Params, change: dict[str, Any], line: str) -> None:
    tree = params.model_dump()
    tree["connector"]["vlora"] |= change
    with pytest.raises(UserError, match=line):
        settings_of.validate_params(tree)


def test_more_steps_than_blocks_gives_one_line(params: Params, vlora: VLora) -> None:
    with pytest.raises(UserError, match="every is 3, but the language model has only 2 blocks"):
        make(params, vlora.model_copy(update={"every": 3}))
