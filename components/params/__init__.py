"""params.yaml as one frozen, validated tree: a file for each group of sections. Every number comes from here."""

from components.params.data import Data, Source, Splits
from components.params.domain import Base, CheckpointBase, ComposeBase, Plates, TinyBase, TinyLanguage, TinyVision
from components.params.evaluation import BenchmarkFiles, Evaluate, Gate, Registry, Tables
from components.params.model import Adapter, Connector, DualLora, LoraMoe, Rode, Vce, VLora
from components.params.reading import PARAMS_FILE, load_params, validate_params
from components.params.root import Params
from components.params.search import Asha, Budget, Tune
from components.params.section import Section, Template
from components.params.training import Finetune, Pretrain, Recipe, Training

__all__ = [
    "PARAMS_FILE",
    "Adapter",
    "Asha",
    "Base",
    "BenchmarkFiles",
    "Budget",
    "CheckpointBase",
    "ComposeBase",
    "Connector",
    "Data",
    "DualLora",
    "Evaluate",
    "Finetune",
    "Gate",
    "LoraMoe",
    "Params",
    "Plates",
    "Pretrain",
    "Recipe",
    "Registry",
    "Rode",
    "Section",
    "Source",
    "Splits",
    "Tables",
    "Template",
    "TinyBase",
    "TinyLanguage",
    "TinyVision",
    "Training",
    "Tune",
    "VLora",
    "Vce",
    "load_params",
    "validate_params",
]
