"""The base model: frozen, never changed by training.

Three ways to have one: `tiny` (trained here on the synthetic domain), `compose` (a Hugging Face vision
encoder and causal language model, with a fresh projector) and `checkpoint` (a ready LLaVA). The first two
are written out as a LLaVA folder; a checkpoint is only referred to, by id, revision and digest.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from components.data.schema import IMAGE_MARKER
from components.digests import folder_digest
from components.errors import UserError
from components.files import write_json
from components.model.hub import downloaded, nearest
from components.model.language import check_language, check_layers, check_precision
from components.model.stored import REFERENCE_FILE, read_reference

TOKENIZER_FILE = "tokenizer.json"
UNREAD = r"text_|(?!.*(embeddings\.|layers?\.\d|pre_))"  # of an encoder: its text tower, and what follows its blocks


@dataclass(frozen=True)
class Base:
    model: LlavaForConditionalGeneration
    tokenizer: Any
    image_processor: Any
    reference: dict[str, Any]  # kind, id, revision, digest


def compose(
    vision: PreTrainedModel, language: PreTrainedModel, tokenizer: Any, image_processor: Any, seed: int
) -> LlavaForConditionalGeneration:
    """A LLaVA from a vision encoder and a causal language model, with a fresh projector.

    The tokenizer gains the image marker and, where it has none, a padding token; the embeddings grow with it
    before any weight is copied. UserError for a language model that LLaVA would compute otherwise.
    """
    check_language(language)
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_MARKER]})
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": "<pad>"})
    if len(tokenizer) > language.config.vocab_size:
        grow_embeddings(language, len(tokenizer))
    num_patches, num_leading = count_features(vision, image_processor)
    config = LlavaConfig(
        vision_config=vision.config,
        text_config=language.config,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_MARKER),
        image_seq_length=num_patches,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default" if num_leading else "full",  # with or without the class token
        tie_word_embeddings=bool(language.config.tie_word_embeddings),
    )
    parts: tuple[Any, ...] = (config.vision_config, config.text_config)
    for each in parts:
        each._name_or_path = ""  # where the pieces lie on this machine is no part of the base
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(vision.state_dict())
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.lm_head.load_state_dict(language.lm_head.state_dict())
    return model.to(language.dtype)  # pyright: ignore


def grow_embeddings(language: PreTrainedModel, size: int) -> None:
    """New rows, input and output, are the mean of the old ones: no chance in them, and never the likeliest answer.

    transformers' own way draws them around that mean, from a generator that nobody seeds.
    """
    old = language.config.vocab_size
    language.resize_token_embeddings(size, mean_resizing=False)
    entry: Any = language.get_input_embeddings()
    head: Any = language.get_output_embeddings()
    with torch.no_grad():
        for rows in (entry.weight, head.weight, getattr(head, "bias", None)):
            if rows is not None:
                rows[old:] = rows[:old].double().mean(0).to(rows.dtype)


def count_features(vision: PreTrainedModel, image_processor: Any) -> tuple[int, int]:
    """Patches of an image as the processor makes it, and the tokens before them (class token, registers).

    Counted on a blank image: a processor may crop to another size than the encoder's configuration has (DINOv2).
    The encoder may be on the meta device.
    """
    name = f"params.yaml: base.compose.vision {vision.config._name_or_path or vision.config.model_type!r}"
    blank = Image.new("RGB", (64, 64))
    pixels = image_processor(images=[blank], return_tensors="pt")["pixel_values"]
    patch = getattr(vision.config, "patch_size", None)
    height, width = pixels.shape[-2:]
    if not isinstance(patch, int) or pixels.ndim != 4 or height != width or height % patch:
        raise UserError(
            f"{name}: its image processor must make square images of whole patches; it makes {height} x {width} pixels "
            f"and the encoder has patches of {patch}"
        )
    try:
        with torch.no_grad():
            seen = vision(pixels.to(vision.device, vision.dtype), output_hidden_states=True).hidden_states[-2]
    except ValueError as error:  # CLIP and SigLIP refuse what is not their own size
        raise UserError(f"{name}: its image processor does not fit it: {str(error).splitlines()[0]}") from None
    patches = (height // patch) ** 2
    leading = getattr(vision.config, "num_register_tokens", 0)
    if seen.ndim != 3 or seen.shape[1] not in (patches, 1 + leading + patches):
        raise UserError(f"{name}: its hidden states {tuple(seen.shape)} are no grid of {patches} patches")
    return patches, seen.shape[1] - patches


def load_pieces(vision: str, language: str, seed: int) -> tuple[PreTrainedModel, PreTrainedModel, Any, Any]:
    """Encoder, language model, tokenizer and image processor by folder or hub id.

    `seed` is for weights that a checkpoint lacks (a pooler): transformers draws them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = _whole(AutoModel, vision, "base.compose.vision", unused=UNREAD)
        causal = _whole(AutoModelForCausalLM, language, "base.compose.language")
    encoder = getattr(encoder, "vision_model", encoder)  # CLIP and SigLIP checkpoints hold a text tower too
    tokenizer = load_tokenizer(language, "base.compose.language")
    return encoder, causal, tokenizer, load_image_processor(vision, "base.compose.vision")


def save_base(folder: Path, model: PreTrainedModel, tokenizer: Any, image_processor: Any, kind: str, name: str) -> None:
    """Write a composed base as a LLaVA folder, with the digest of its files."""
    _show_bars_in_terminals_only()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image_processor.save_pretrained(folder)
    _write_reference(folder, {"kind": kind, "id": name, "revision": None, "digest": folder_digest(folder)})


def refer_to_checkpoint(folder: Path, model: str, revision: str | None) -> None:
    """Check that a LLaVA checkpoint is there and write down which one it is."""
    config = _found(AutoConfig, model, "base.checkpoint.model", revision=revision)
    if config.model_type != "llava":
        raise UserError(f"params.yaml: base.checkpoint.model {model} is a {config.model_type} model, not llava")
    check_layers(config, f"params.yaml: base.checkpoint.model {model}")
    check_precision(config, f"params.yaml: base.checkpoint.model {model}")
    local = downloaded(model, revision)
    if Path(model).is_dir():  # workers and queued experiments run in other folders
        model, commit = str(local.resolve()), None
    else:
        commit = local.name
    tokenizer = load_tokenizer(str(local), "base.checkpoint.model")
    if tokenizer.is_fast:  # data are measured with it; a base without is refused where labels are made
        tokenizer.backend_tokenizer.save(str(folder / TOKENIZER_FILE))
    _write_reference(
        folder, {"kind": "checkpoint", "id": model, "revision": commit, "digest": folder_digest(local, "*")}
    )


def load_base(folder: Path) -> Base:
    """Read the base that a folder holds or refers to."""
    reference, place, revision = _place(folder)
    model = _whole(LlavaForConditionalGeneration, place, "base.checkpoint.model", revision=revision)
    tokenizer = load_tokenizer(place, "base.checkpoint.model", revision)
    return Base(model, tokenizer, load_image_processor(place, "base.checkpoint.model", revision), reference)


def read_config(folder: Path) -> LlavaConfig:
    """The configuration of the base alone."""
    _, place, revision = _place(folder)
    return _found(AutoConfig, place, "base.checkpoint.model", revision=revision)


def _place(folder: Path) -> tuple[dict[str, Any], str, str | None]:
    """What base.json says, and where the files are."""
    reference = read_reference(folder)
    if reference["kind"] == "checkpoint":
        return reference, reference["id"], reference["revision"]
    return reference, str(folder), None


def _write_reference(folder: Path, reference: dict[str, Any]) -> None:
    write_json(folder / REFERENCE_FILE, reference)


def load_image_processor(place: str, setting: str, revision: str | None = None) -> Any:
    """The image processor of a folder or hub id, which `setting` names."""
    return _found(AutoImageProcessor, place, setting, revision=revision, backend="pil")


def load_tokenizer(place: str, setting: str, revision: str | None = None) -> Any:
    """The tokenizer of a folder or hub id, which `setting` names.

    Llama's starts a text with <s> unless its files say otherwise (`add_bos_token`). transformers 5 documents that
    default, but adds nothing where a `tokenizer.model` comes without the entry.
    """
    tokenizer = _found(AutoTokenizer, place, setting, revision=revision)
    said = getattr(tokenizer, "init_kwargs", {})
    if isinstance(tokenizer, LlamaTokenizer) and said.get("vocab_file") and "add_bos_token" not in said:
        tokenizer.add_bos_token = True
    return tokenizer


def _found(loader: Any, place: str, setting: str, **options: Any) -> Any:
    _show_bars_in_terminals_only()
    try:
        near = nearest(place, options.get("revision"))
        return loader.from_pretrained(near, trust_remote_code=False, **options)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0].removesuffix(".")
        if "trust_remote_code" in str(error):
            reason = "it brings code of its own (auto_map), which is never run"
        raise UserError(
            f"params.yaml: {setting} {place!r} cannot be loaded: {reason} "
            "(give a folder in Hugging Face's format, or the id of a model that this machine can download)"
        ) from None


def _whole(loader: Any, place: str, setting: str, unused: str = "", **options: Any) -> Any:
    """A model all of whose weights are in its files: transformers draws what they lack, and goes on.

    unused: a regex of the names, from their beginning, that may be missing, for nothing reads those weights.
    """
    check_precision(_found(AutoConfig, place, setting, **options), f"params.yaml: {setting} {place!r}")
    report = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    model, found = _found(loader, place, setting, **report, **options)
    lacking = sorted(name for name in found["missing_keys"] if not (unused and re.match(unused, name)))
    other = sorted(entry[0] for entry in found["mismatched_keys"])
    for names, what in ((lacking, "are not in its files"), (other, "have another shape than its config.json says")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UserError(
                f"params.yaml: {setting} {place!r}: weights {what} ({names[0]}{more}); they would be drawn at random: "
                "give a folder or id in Hugging Face's own layout (llava-hf/.., not liuhaotian/..) with all its files"
            )
    return model


def _show_bars_in_terminals_only() -> None:
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
