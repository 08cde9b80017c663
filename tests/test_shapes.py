"""Real calls keep the shapes that the signatures name, and a wrong shape is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from peft import get_peft_model
from torch import nn

from components.adapters import DualLoraConfig, LoraMoeConfig, RodeConfig, dual_lora, experts, routing
from components.batching import packing, tree
from components.batching.conversation import IGNORED, Encoded
from components.model import bilinear, deformable, released_cue, visual_cue
from tests.shapes import check_shapes

FORMS = [visual_cue.VisualCueEnhancement, released_cue.ReleasedVisualCueEnhancement]
CONFIGS: list[Callable[..., Any]] = [DualLoraConfig, LoraMoeConfig, RodeConfig]


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    modules = (bilinear, deformable, released_cue, visual_cue, dual_lora, routing, experts, packing, tree)
    return check_shapes(monkeypatch, *modules)


def test_what_computes_names_its_shapes(checked: list[str]) -> None:
    """A signature that loses its shapes would no longer be checked by the tests below."""
    names = {name.removeprefix("components.") for name in checked}
    assert names >= {
        *(f"model.bilinear.{name}" for name in ("sample", "sample_levels", "by_grid_sample", "by_gathers", "together")),
        *(f"model.deformable.{name}" for name in ("DeformableCue.inspect", "patch_centres")),
        *(f"model.visual_cue.VisualCueEnhancement.{name}" for name in ("forward", "cue")),
        *(f"model.released_cue.ReleasedVisualCueEnhancement.{name}" for name in ("forward", "cue")),
        *(f"adapters.dual_lora.{name}" for name in ("Spaces.forward", "DualLoraLayer.extend")),
        *(f"adapters.experts.{name}" for name in ("ExpertsLayer.extend", "ExpertsLayer.delta_weight")),
        "adapters.routing.weigh",
        "batching.packing.pad",
        *(f"batching.tree.{name}" for name in ("padded", "tree_mask")),
    }


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("grid", [(3, 3), (2, 4)])
def test_cues_keep_their_shapes(form: Any, grid: tuple[int, int]) -> None:
    patches = grid[0] * grid[1]
    levels = [torch.randn(2, patches, 24) for _ in range(3)]
    module = form(24, 3, num_heads=4, num_points=2)
    out = module(levels, grid)
    out.sum().backward()
    cue = module.inspect(levels, grid)
    assert out.shape == cue.cue.shape == (2, patches, 24)
    assert cue.locations.shape == (2, patches, 4, 3, 2, 2)


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize("form", FORMS)
def test_levels_without_a_batch_are_refused(form: Any) -> None:
    module = form(24, 2, num_heads=4, num_points=2)
    with pytest.raises(TypeCheckError, match="batch patches width"):
        module([torch.randn(9, 24)] * 2, (3, 3))


@pytest.mark.usefixtures("checked")
def test_readings_on_a_gpu_s_path_keep_their_shapes_and_refuse_other_points() -> None:
    values = [torch.randn(2, 6, 8) for _ in range(3)]
    locations, attention = torch.rand(2, 5, 4, 3, 2, 2), torch.rand(2, 5, 4, 3, 2)
    assert [each.shape for each in bilinear.together(values, (2, 3), locations, attention)] == [(2, 5, 8)] * 3
    with pytest.raises(TypeCheckError, match="attention"):  # would broadcast, silently
        bilinear.by_gathers(values[0], (2, 3), locations[:, :, :, 0], attention[:, :, :, 0, :1])


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 5, 6)])
def test_adapters_keep_their_shapes(config: Callable[..., Any], shape: tuple[int, ...]) -> None:
    layer = adapted(config)
    layer(torch.randn(shape)).sum().backward()
    assert layer.delta_weight("default").shape == (4, 6)


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize("config", CONFIGS)
def test_adapters_refuse_rows_that_are_not_those_of_the_base(config: Callable[..., Any]) -> None:
    layer = adapted(config)
    with pytest.raises(TypeCheckError, match=r"tokens outputs"):  # would broadcast, silently
        layer.extend("default", torch.randn(1, 6), torch.randn(5, 4))


@pytest.mark.usefixtures("checked")
def test_weights_of_experts_must_be_those_of_the_same_tokens() -> None:
    features = torch.randn(5, 4)
    for ranks in ([2, 2], [1, 3]):
        assert routing.weigh(features, torch.randn(5, 2), ranks).shape == (5, 4)
        with pytest.raises(TypeCheckError, match="tokens experts"):  # would broadcast, silently
            routing.weigh(features, torch.randn(1, 2), ranks)


@pytest.mark.usefixtures("checked")
def test_packed_sequences_keep_their_shapes() -> None:
    samples = [Encoded([1, 2, 3, last], [IGNORED, IGNORED, 3, last]) for last in (4, 5)]
    batch = packing.pad([packing.pack(samples), packing.pack(samples[:1])], 0, multiple=8)
    length = batch["ids"].shape[1]
    assert tree.tree_mask(batch["segments"]).shape == (2, 1, length, length)
    for wrong in (batch["segments"][0], batch["segments"].float()):
        with pytest.raises(TypeCheckError, match="sequences tokens"):
            tree.tree_mask(wrong)


def test_outside_the_check_nothing_is_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tree.tree_mask
    with monkeypatch.context() as during:
        check_shapes(during, tree)
        assert tree.tree_mask is not plain
    assert tree.tree_mask is plain
    assert not hasattr(tree, "Int")


def adapted(config: Callable[..., Any]) -> Any:
    """The adapted layer of a model of one linear layer, 6 -> 4."""
    settings = {"ranks": [1, 1, 2, 4]} if config is RodeConfig else {}
    model: Any = get_peft_model(
        nn.ModuleDict({"q_proj": nn.Linear(6, 4)}), config(r=8, target_modules=["q_proj"], **settings)
    )
    return model.base_model.model["q_proj"]
