"""Every method on a GPU: values, gradients, compiling, saving and loading; the kernels and their twins."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model

from components.adapters import adapter_parameters, fast, method
from tests.adapters.test_contract import COMMON, base, every_case, inputs, stir
from tests.on_gpu.conftest import ON_CPU

pytestmark = pytest.mark.gpu


def _adapted(name: str, settings: dict[str, Any]) -> Any:
    model = get_peft_model(base(), method(name)(**COMMON, **settings))  # type: ignore[arg-type]
    stir(model)
    return model.eval()


def _gradients(model: Any, x: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(x).square().sum().backward()
    return {name: p.grad.double().cpu() for name, p in adapter_parameters(model).items() if p.grad is not None}


def _off(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """How far all gradients together are from what is wanted, relative to their length."""
    assert found.keys() == wanted.keys()
    difference = torch.cat([(found[name] - wanted[name]).flatten() for name in wanted])
    return float(difference.norm() / torch.cat([each.flatten() for each in wanted.values()]).norm())


@every_case
def test_values_and_gradients_are_those_of_a_cpu_in_fp64(
    name: str, settings: dict[str, Any], device: torch.device
) -> None:
    exact = _adapted(name, settings)
    model = copy.deepcopy(exact).to(device, torch.float32)
    x = inputs()
    torch.testing.assert_close(model(x.to(device, torch.float32)).double().cpu(), exact(x), rtol=1e-4, atol=1e-5)
    wanted = _gradients(exact, x)
    found = _gradients(model, x.to(device, torch.float32))
    assert _off(found, wanted) < 1e-3
    with torch.no_grad():  # the kernels of decoding
        torch.testing.assert_close(model(x.to(device, torch.float32)).double().cpu(), exact(x), rtol=1e-4, atol=1e-5)


@every_case
@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores")  # the compiler's advice; here fp32 is what is tested
def test_compiled_model_gives_the_same(name: str, settings: dict[str, Any], device: torch.device) -> None:
    model = _adapted(name, settings).to(device, torch.float32)
    x = inputs(torch.float32).to(device)
    compiled = torch.compile(model)
    torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
    wanted = _gradients(model, x)
    model.zero_grad()
    compiled(x).square().sum().backward()
    found = {n: p.grad.double().cpu() for n, p in adapter_parameters(model).items() if p.grad is not None}
    assert _off(found, wanted) < 1e-3


@every_case
def test_saved_adapter_answers_alike_when_loaded(
    name: str, settings: dict[str, Any], device: torch.device, tmp_path: Path
) -> None:
    model = _adapted(name, settings).to(device, torch.float32)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(base(torch.float32).to(device), str(tmp_path)).eval()
    x = inputs(torch.float32).to(device)
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)


@pytest.mark.skipif(ON_CPU, reason="tests/adapters/test_fast.py runs them by Triton's interpreter")
@pytest.mark.parametrize("dtype", list(fast.CLOSE))
def test_kernels_build_and_agree_with_their_twins(dtype: torch.dtype, device: torch.device) -> None:
    from components.adapters import kernels

    for rows, rank in ((1, 8), (37, 24), (4096, 64), (100, 128)):
        assert fast.differences(kernels, device, dtype, rows, rank) < fast.CLOSE[dtype]
    assert fast._checked(device, dtype) is kernels


@pytest.mark.skipif(ON_CPU, reason="kernels are chosen on CUDA devices alone")
def test_dual_lora_takes_the_kernel(device: torch.device) -> None:
    model = _adapted("dual_lora", {"r": 4}).to(device, torch.float32)
    spaces = model.get_submodule("base_model.model.layers.0.q_proj").dual_lora_spaces["default"]
    few, many = inputs(torch.float32).to(device), inputs(torch.float32).to(device).repeat(fast.MANY, 1, 1)
    assert spaces(few, few)[1] is not None  # its factors
    assert spaces(many, many)[1] is None  # the product
    with fast.for_replay():
        assert spaces(few, few)[1] is None
