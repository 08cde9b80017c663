"""What every method of this package shares with PEFT: a layer around a frozen linear, a tuner, registration.

A method adds a config (its own switches), a layer (its formula) and a tuner that ties the two. Everything else that
PEFT offers (several named adapters, disabling, saving, loading, merging) is answered here once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from peft import LoraConfig
from peft.config import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, check_adapters_to_merge
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from peft.utils.other import get_pattern_key
from torch import nn

from .config import AdapterConfig
from .targets import LINEAR, check_is_called, check_targets, find_all_linear, names_all_linear

PEFT_PREFIX = "base_model.model."  # of every name in a model that PEFT has wrapped


def modules_by_adapter() -> dict[str, Any]:
    """An empty ModuleDict, one module per adapter name, typed as the mapping it is used as."""
    return cast("dict[str, Any]", nn.ModuleDict())


class UpLinear(nn.Linear):
    """B: adds scale * B features to what is there, in one product where precision allows."""

    def forward(self, features: torch.Tensor, onto: torch.Tensor, scale: float) -> torch.Tensor:  # type: ignore[override]
        """features (..., r), onto (..., out) -> (..., out)."""
        if not features.dtype == onto.dtype == self.weight.dtype:  # autocast, or adapters kept in float32
            return onto + super().forward(features * scale)
        flat = onto.reshape(-1, self.out_features)
        flat = torch.addmm(flat, features.reshape(-1, self.in_features), self.weight.t(), alpha=scale)
        return flat.view(onto.shape)


class ZeroUpLinear(UpLinear):
    """B at its start: zero.

    Zeroed in its own constructor, because under DeepSpeed's zero.Init the weight is partitioned right after it and
    a later `zeros_` would touch nothing.
    """

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)


class AdapterLayer(nn.Module, BaseTunerLayer):
    """A frozen linear layer plus the deltas of its active adapters: z = W x + sum over adapters of delta(x).

    Parts are submodules and are called as such, never through a bare `.weight`: ZeRO-3 gathers a partitioned weight
    only around the call of the module that owns it.
    """

    other_param_names = ("r", "scaling", "adapter_dropout")
    in_features: int
    out_features: int

    def __init__(self, base_layer: nn.Module, adapter_name: str) -> None:
        super().__init__()
        self.base_layer = base_layer
        linear: Any = self.get_base_layer()
        self.weight_is_transposed = not isinstance(linear, nn.Linear)  # GPT-2's Conv1D
        sizes = (linear.nx, linear.nf) if self.weight_is_transposed else (linear.in_features, linear.out_features)
        self.in_features, self.out_features = sizes
        self.r: dict[str, int] = {}
        self.scaling: dict[str, float] = {}  # alpha / r
        self.adapter_dropout: dict[str, nn.Module] = modules_by_adapter()
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter = adapter_name

    def build(self, name: str, config: Any, rank: int, factory: dict[str, Any]) -> None:
        """Create the modules of a new adapter. `factory` goes to every constructor (device)."""
        raise NotImplementedError

    def extend(self, name: str, x: torch.Tensor, onto: torch.Tensor) -> torch.Tensor:
        """What is there so far plus what one adapter makes of x: x (..., in), onto (..., out) -> (..., out)."""
        raise NotImplementedError

    def why_not_mergeable(self, name: str) -> str | None:
        """The reason why this adapter is no constant matrix, or None if it is one."""
        raise NotImplementedError

    def delta_weight(self, name: str) -> torch.Tensor:
        """The matrix (out, in) that a mergeable adapter adds to W."""
        raise NotImplementedError

    def add_adapter(self, name: str, config: AdapterConfig, rank: int, alpha: float) -> None:
        device = self.get_base_layer().weight.device
        self.r[name] = rank
        self.scaling[name] = alpha / rank
        self.adapter_dropout[name] = nn.Dropout(config.lora_dropout) if config.lora_dropout else nn.Identity()
        # PEFT moves new parts to the device of W; only meta has to be said here, or a skeleton would cost memory.
        self.build(name, config, rank, {"device": device} if device.type == "meta" else {})
        self._move_adapter_to_device_of_base_layer(name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def adapter_parameters(self, name: str | None = None) -> Iterator[tuple[str, nn.Parameter]]:
        """Names (within this layer) and parameters of one adapter, or of all."""
        for part in self.adapter_layer_names:
            for adapter, module in getattr(self, part).items():
                if name in (None, adapter):
                    yield from module.named_parameters(prefix=f"{part}.{adapter}")

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        # Plain attributes rather than PEFT's properties: decoding runs this for one token at a time.
        if self._disable_adapters and self.merged_adapters:
            self.unmerge()
        result = self.base_layer(x, *args, **kwargs)
        if self._disable_adapters or self.merged_adapters:
            return result
        dtype = result.dtype
        for name in self.active_adapters:
            if name in self.scaling:
                result = self.extend(name, x, result)
        return result if result.dtype == dtype else result.to(dtype)

    def adapter_input(self, name: str, x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """x in the adapter's precision, and what dropout leaves of it in training (the same tensor otherwise)."""
        if x.dtype != dtype:
            x = self._cast_input_dtype(x, dtype)
        return x, self.adapter_dropout[name](x) if self.training else x

    def require_mergeable(self, adapter_names: list[str] | None) -> None:
        """A ValueError where one of the adapters (None: of the active ones) is no matrix."""
        for name in self.active_adapters if adapter_names is None else adapter_names:
            reason = (self.why_not_mergeable(name) or self._quantized()) if name in self.scaling else None
            if reason:
                raise ValueError(f"adapter {name!r} cannot be merged into the base weights: {reason}")

    def _quantized(self) -> str | None:
        """The reason why nothing can be added to W, or None: W of 8 or 4 bits holds codes, and not its values."""
        linear: Any = self.get_base_layer()
        plain = type(linear.weight) in (nn.Parameter, torch.Tensor) and linear.weight.dtype.is_floating_point
        if plain and linear.weight.element_size() > 1:
            return None
        return f"{type(linear).__name__} is quantized; load the base in 16 or 32 bits to merge into it"

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the adapters to W; a ValueError, before anything is changed, where one of them is no matrix."""
        self.require_mergeable(adapter_names)
        for name in check_adapters_to_merge(self, adapter_names):
            if name not in self.scaling:
                continue
            weight = self.get_base_weight()
            merged = weight + self._delta_like(weight, name)
            if safe_merge and not torch.isfinite(merged).all():
                raise ValueError(f"merging adapter {name!r} gives NaN or infinite weights; it seems to be broken")
            self.set_base_weight(merged)
            self.merged_adapters.append(name)

    def unmerge(self) -> None:
        if not self.merged:
            warnings.warn("no adapter is merged; nothing to do", stacklevel=2)
        while self.merged_adapters:
            weight = self.get_base_weight()
            self.set_base_weight(weight - self._delta_like(weight, self.merged_adapters.pop()))

    def _delta_like(self, weight: torch.Tensor, name: str) -> torch.Tensor:
        delta = self.delta_weight(name).to(weight)
        return delta.T if self.weight_is_transposed else delta


class AdapterModel(BaseTuner):
    """Puts `layer_cls` around every target module; subclasses say which layer."""

    layer_cls: type[AdapterLayer]
    target_module_mapping = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    def _prepare_model(self, peft_config: PeftConfig, model: nn.Module) -> None:
        check_targets(model, peft_config)
        if names_all_linear(cast("Any", peft_config).target_modules):
            find_all_linear(model, peft_config, AdapterLayer)

    def _check_target_module_compatiblity(self, peft_config: PeftConfig, model: nn.Module, target_name: str) -> None:
        """What PEFT refuses for LoRA: layers of Mamba's whose weights go into a kernel without a call."""
        super()._check_target_module_compatiblity(LoraConfig(), model, target_name)

    def merge_adapter(self, adapter_names: list[str] | None = None, safe_merge: bool = False) -> None:
        self._require_mergeable(adapter_names)
        super().merge_adapter(adapter_names, safe_merge)

    def _unload_and_optionally_merge(
        self,
        merge: bool = True,
        progressbar: bool = False,
        safe_merge: bool = False,
        adapter_names: list[str] | None = None,
    ) -> Any:
        if merge:
            self._require_mergeable(adapter_names)
        return super()._unload_and_optionally_merge(merge, progressbar, safe_merge, adapter_names)

    def _require_mergeable(self, adapter_names: list[str] | None) -> None:
        """All layers are asked before the first is changed."""
        for layer in self.model.modules():
            if isinstance(layer, AdapterLayer):
                layer.require_mergeable(adapter_names)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """PEFT opens this around every call of the model; it carries PEFT's choice of an adapter for each row."""
        if kwargs.get("adapter_names") is not None:
            raise ValueError("adapter_names: all rows of a batch use the active adapters; choose them by set_adapter")
        yield

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: PeftConfig, adapter_name: str, state_dict: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """From the file's names to the model's; a file that lacks a tensor, or holds one without a place, is refused.

        PEFT itself warns of what is missing and drops what is too much.
        """
        entries = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        found, places = ({name.removeprefix(PEFT_PREFIX) for name in names} for names in (entries, model.state_dict()))
        wanted = {name.removeprefix(PEFT_PREFIX) for name in adapter_parameters(model, adapter_name)}
        for odd, fault in ((wanted - found, "lacks"), (found - places, "holds, without a place in the model,")):
            if odd:
                more = f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
                raise ValueError(f"the adapter file {fault} {min(odd)}{more}; it is damaged or of other settings")
        return entries

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        rank = peft_config.rank_pattern.get(get_pattern_key(peft_config.rank_pattern, current_key), peft_config.r)
        alpha = peft_config.alpha_pattern.get(
            get_pattern_key(peft_config.alpha_pattern, current_key), peft_config.lora_alpha
        )
        if isinstance(target, self.layer_cls):
            target.add_adapter(adapter_name, peft_config, rank, alpha)
            return
        linear = target.get_base_layer() if isinstance(target, BaseTunerLayer) else target
        if not isinstance(linear, LINEAR):
            raise ValueError(
                f"target_modules matches {current_key}, a {type(linear).__name__}; only Linear layers can be adapted"
            )
        check_is_called(parent, current_key)
        layer = self.layer_cls(target, adapter_name)
        layer.add_adapter(adapter_name, peft_config, rank, alpha)
        if adapter_name not in self.active_adapters:  # a further adapter waits until it is chosen
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)


def adapter_parameters(model: nn.Module, name: str | None = None) -> dict[str, nn.Parameter]:
    """All adapter parameters of a model by full name, whatever PEFT method they belong to: the layers are asked."""
    found: dict[str, nn.Parameter] = {}
    for path, layer in model.named_modules():
        if not isinstance(layer, BaseTunerLayer):
            continue
        for part in layer.adapter_layer_names:
            parts = getattr(layer, part)
            for adapter in parts.keys() if name is None else {name} & set(parts.keys()):
                where, item = f"{path}.{part}.{adapter}", parts[adapter]
                if isinstance(item, nn.Parameter):
                    found[where] = item
                else:
                    found.update(item.named_parameters(prefix=where))
    return found


def register(peft_type: str, config_cls: type[PeftConfig], model_cls: type[BaseTuner]) -> None:
    """Make a method known to PEFT under a plain string key.

    PEFT's own `register_peft_method` accepts members of its enum only; its three mappings take any string.
    """
    PEFT_TYPE_TO_CONFIG_MAPPING[peft_type] = config_cls  # type: ignore[index]
    PEFT_TYPE_TO_TUNER_MAPPING[peft_type] = model_cls  # type: ignore[index]
    PEFT_TYPE_TO_PREFIX_MAPPING[peft_type] = model_cls.prefix  # type: ignore[index]
