"""An adapter's small work as one kernel: Triton's interpreter runs it on a CPU, where Triton is installed."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils.checkpoint import checkpoint

from components.adapters import fast, method
from components.adapters.routing import ROUTERS, RouterWeights, weigh
from components.evaluation.insight.measures import SkillSpaces

VIEWS = {"view", "_unsafe_view", "t", "transpose", "split", "split_with_sizes", "slice", "unsqueeze", "detach", "chunk"}


class _Launches(TorchDispatchMode):
    """Operators that a GPU launches a kernel for; views are none."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ not in VIEWS
        return func(*args, **(kwargs or {}))


class _Twins:
    """Stands in for the module of kernels: one launch each, computed by the plain twins out of the counter's sight."""

    def __init__(self) -> None:
        self.used = 0

    def norm_gate(self, skill: Any, task: Any, weight: Any, bias: Any) -> Any:
        self.used += 1
        return self._unseen(lambda: nn.functional.layer_norm(skill, (len(weight),), weight, bias) * task.relu())

    def route(self, features: Any, logits: Any, expert: Any, kind: str, k: int) -> Any:
        self.used += 1

        def twin() -> Any:
            ranks = torch.bincount(expert).tolist()
            router = next(each for each in ROUTERS if fast._kind(_made(each), len(ranks)) == (kind, k))
            return weigh(features, _made(router)(logits), ranks)

        return self._unseen(twin)

    @staticmethod
    def _unseen(compute: Any) -> torch.Tensor:
        with _disable_current_modes():
            result = compute()
        return result + 0  # the one launch


def _made(router: Any) -> nn.Module:
    return router(2) if router.__name__ == "TopKRouter" else router()


SETTINGS: dict[str, dict[str, Any]] = {
    "dual_lora": {},
    "lora_moe": {"num_experts": 4, "routing": "top_k", "top_k": 2},
    "rode": {"ranks": [2, 2, 4, 8]},
}


def _layer(kind: str) -> Any:
    torch.manual_seed(0)
    config = method(kind)(r=16, target_modules=["q_proj"], init_weights=False, **SETTINGS[kind])  # type: ignore[call-arg]
    return (
        get_peft_model(nn.ModuleDict({"q_proj": nn.Linear(32, 32)}), config)
        .eval()
        .get_submodule(  # type: ignore[arg-type]
            "base_model.model.q_proj"
        )
    )


def _launches(module: nn.Module) -> int:
    with torch.no_grad():
        module(torch.ones(1, 1, 32))  # what is made once is made here
        with _Launches() as counter:
            module(torch.ones(1, 1, 32))
    return counter.count


@pytest.mark.parametrize(("kind", "plain"), [("dual_lora", 5), ("lora_moe", 7), ("rode", 7)])
def test_adapted_layer_adds_three_launches_a_token(kind: str, plain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two products and one kernel between them: 3 beside the frozen product, where plain LoRA has 2 at the least."""
    layer = _layer(kind)
    frozen = _launches(layer.base_layer)
    assert _launches(layer) - frozen >= plain
    twins = _Twins()
    monkeypatch.setattr(fast, "_kernels", lambda like: twins)
    assert _launches(layer) - frozen == 3
    assert twins.used == 2


@pytest.mark.parametrize("kind", SETTINGS)
def test_hooks_see_what_they_read_and_results_stay(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x, twins = _layer(kind), torch.randn(2, 3, 32), _Twins()
    with torch.no_grad():
        expected = layer(x)
        monkeypatch.setattr(fast, "_kernels", lambda like: twins)
        torch.testing.assert_close(layer(x), expected)
        used = twins.used
        watch: Any = SkillSpaces(layer) if kind == "dual_lora" else RouterWeights(layer)
        with watch:
            torch.testing.assert_close(layer(x), expected)
    assert used == twins.used == 1
    assert len(watch.layers() if kind == "dual_lora" else watch.load()) == 1


def test_cpus_and_devices_without_working_kernels_run_the_plain_twins(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fast._kernels(torch.ones(1)) is None
    broken = SimpleNamespace(norm_gate=lambda *_: torch.zeros(37, 24))
    monkeypatch.setitem(sys.modules, "components.adapters.kernels", broken)
    monkeypatch.setattr("components.adapters.kernels", broken, raising=False)
    fast._checked.cache_clear()
    with pytest.warns(UserWarning, match="kernels are not used on cpu|kernels cannot be used on cpu"):
        assert fast._checked(torch.device("cpu"), torch.float32) is None
    fast._checked.cache_clear()


def test_kernels_are_compared_within_a_checkpointed_block() -> None:
    """They are, at their first use: the comparison's own gradients must be none of the checkpoint's business."""

    def differences(kernels: Any, device: torch.device, dtype: torch.dtype) -> float:
        x = torch.ones(3, device=device, dtype=dtype, requires_grad=True)
        (gradient,) = torch.autograd.grad((x.exp() * x.sin()).sum(), x)
        return 0.0 * float(gradient.sum())

    found = []

    def block(x: torch.Tensor) -> torch.Tensor:
        if not found:
            found.append(fast.if_they_agree("math", differences, 1e-9, x.device, x.dtype))
        return x.exp() * x.sin()

    x = torch.ones(3, requires_grad=True)
    checkpointed: Any = checkpoint(block, x, use_reentrant=False)
    (wanted,) = torch.autograd.grad(block(x).sum(), x)
    assert torch.equal(torch.autograd.grad(checkpointed.sum(), x)[0], wanted)
    assert found == [math]


def test_replay_is_of_one_thread() -> None:
    with fast.for_replay(), ThreadPoolExecutor(1) as pool:
        assert fast._replayed.get()
        assert not pool.submit(fast._replayed.get).result()
    assert not fast._replayed.get()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_kernels_agree_with_their_twins(dtype: str) -> None:
    """In a process of its own: Triton reads TRITON_INTERPRET when it is imported."""
    pytest.importorskip("triton", reason="pip install triton; its interpreter needs no GPU")
    code = f"""
import torch
from components.adapters import fast, kernels
for rows, rank in ((1, 8), (37, 24), (16, 64)):
    found = fast.differences(kernels, torch.device("cpu"), torch.{dtype}, rows, rank)
    assert found < {2e-6 if dtype == "float32" else 2e-2}, (rows, rank, found)
"""
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
