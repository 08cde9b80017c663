"""The synthetic domain and the base model: `plates`, `base`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.params.section import LearningRate, Positive, Section


class Plates(Section):
    """The synthetic domain: drawn dishes with the tasks of UniFood, ScienceQA and Flickr30k."""

    image_size: Annotated[int, Field(ge=24)]  # pixels per side
    sets: dict[Literal["captions", "unifood", "scienceqa", "flickr30k"], Positive]  # number of images


class TinyVision(Section):
    width: Positive
    layers: Positive
    heads: Positive
    patch_size: Positive  # pixels per side
    images: Positive  # drawn for contrastive training, never seen again
    epochs: Positive
    batch: Positive
    learning_rate: LearningRate


class TinyLanguage(Section):
    width: Positive
    layers: Positive
    heads: Positive
    vocabulary: Annotated[int, Field(ge=300)]
    texts: Positive  # dialogues about described plates, written for this training alone
    epochs: Positive
    batch: Positive
    learning_rate: LearningRate


class TinyBase(Section):
    vision: TinyVision
    language: TinyLanguage


class ComposeBase(Section):
    """A Hugging Face vision encoder and causal language model (folder or hub id), a fresh projector."""

    vision: str
    language: str


class CheckpointBase(Section):
    """A ready LLaVA checkpoint in Hugging Face's format (folder or hub id)."""

    model: str
    revision: str | None


class Base(Section):
    kind: Literal["tiny", "compose", "checkpoint"]
    tiny: TinyBase
    compose: ComposeBase
    checkpoint: CheckpointBase
