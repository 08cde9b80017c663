"""All sections as one tree."""

from __future__ import annotations

from pydantic import model_validator

from components.params.data import Data
from components.params.domain import Base, Plates
from components.params.evaluation import Evaluate, Registry, Tables
from components.params.model import Adapter, Connector, Vce
from components.params.search import Tune
from components.params.section import NotNegative, ProfileName, Section
from components.params.training import Finetune, Pretrain, Training


class Params(Section):
    profile: ProfileName
    seed: NotNegative
    plates: Plates
    base: Base
    data: Data
    connector: Connector
    vce: Vce
    adapter: Adapter
    pretrain: Pretrain
    finetune: Finetune
    training: Training
    evaluate: Evaluate
    tables: Tables
    registry: Registry
    tune: Tune

    @model_validator(mode="after")
    def _sections_agree(self) -> Params:
        vision = self.base.tiny.vision
        misfit = self.vce.misfit(vision.width, vision.layers) if self.base.kind == "tiny" and self.vce.enabled else None
        if misfit:
            raise ValueError(misfit)
        for name, recipe in (("pretrain", self.pretrain), ("finetune", self.finetune)):
            for source in recipe.sources:
                if source not in self.data.sources:
                    known = ", ".join(self.data.sources)
                    raise ValueError(f"{name}.sources names {source!r}, which is not in data.sources: {known}")
            for workers in self.training.worker_counts:
                if recipe.global_batch % workers:
                    which = "training.workers" if workers == self.training.workers else "a count down to min_workers"
                    raise ValueError(
                        f"{name}.global_batch must be a multiple of {which} ({workers}), got {recipe.global_batch}"
                    )
        return self
