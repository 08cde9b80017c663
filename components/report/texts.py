"""What page and Markdown say beside the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.report import forms
from components.report.charts import window
from components.report.inputs import Inputs
from components.report.results import FEWEST, OURS

TEXTS = {
    "stranger": "This page reports one training run of a model that answers questions about images: what it was "
    "trained on, how well it answers about images it has not seen, and how much of that it owes to the image.",
    "units": "Bold: the best of its line. ↓: lower is better.",
    "differences": "Points in the units above. The interval is a paired bootstrap over the test questions: were the "
    "questions drawn anew, 95 of 100 such intervals would hold the true difference. Undecided: the interval holds "
    "zero. Questions of one group (photos of one dish) are drawn together; fewer than "
    f"{FEWEST} questions or groups carry no interval and no verdict.",
    "samples": "Held-out images with the question, the true answer and the answer after stage 2.",
    "cue": "Size of the raw cue: the length of what VCE's attention samples for each patch, before the layer norm "
    "that follows; brighter is larger. After that norm every patch is given nearly the same amount, so that this map "
    "does not show where the cue changes the answer.",
    "occlusion": "What the answer rests on: each cell of a 6 by 6 grid is covered with the image's mean colour, and "
    "the probability that the model gives its own answer to the first question is taken again. Orange: without this "
    "cell that answer is less likely. Blue: more likely. Stronger colour is a larger change; below stands the largest, "
    "in nats (1 nat: 2.7 times less likely). Drawn for the first images only.",
    "entropy": "Entropy of the skill space by depth in the language model, before and after the task space rectifies "
    "it: means over adapted layers and tasks. Low: few units carry the energy.",
    "distribution": "How the energy is spread over the units of the skill space, by depth: means over tokens, tasks "
    "and layers.",
    "entropy_table": "Entropy before and after rectification in nats, and the share of task units at zero.",
    "experts": "Mean router weight of each expert over the tokens of test questions with their true answers, and the "
    "share of tokens for which an expert is switched off (weight exactly zero).",
    "data": "Counted in samples: a conversation, mostly a question with its answer, of which a record may "
    "hold several (three for a dish of UniFood, five captions of a photo). Kept and rejected add up to read. Samples "
    "that share an image or a group never stand in two splits.",
    "comparisons": "Each row is a model of its own, trained and tested on this run's data with the settings of the "
    "paper's row, by the version of this program that is named under each table. Differences are to the first row, in "
    "points, with paired bootstrap intervals over the test questions (95\u00a0%) of the mean over seeds. In colour: "
    "the whole interval lies on one side of zero: the choice of test questions does not explain the difference. "
    "Grey: it may.",
    "size_published": "IoU by size as the paper prints it (Figure 7, appendix Table 2): only the adapter is trained.",
    "size_here": "The same here, on the ranks of this profile.",
    "size_not_here": "Rank against size was not measured on this run's data; python -m pipelines.tables ranks does it.",
    "time": "Time of a forward pass against LoRA's (Figure 8): the paper's from GPUs, ours from a CPU.",
    "ledger": "What the two papers print, figure by figure, and what is known of it here. A figure counts as measured "
    "here only when a run holds the paper's base and settings. In parentheses: what the same method scored on this "
    "run's data and base, for orientation; the two cannot be compared.",
    "forms": forms.ABOUT,
}


CUE_AS_RELEASED = (
    "Size of the raw cue: the length of what VCE's attention gives each patch, brighter is larger. As released, "
    "it is added as it is; where the cue is large is still not where it changes the answer."
)


def texts(metrics: Mapping[str, Any], inputs: Inputs, form: forms.Form) -> dict[str, str]:
    """All sentences; those that depend on the run say only what it has."""
    tasks = metrics.get(OURS, {}).keys()
    times100 = [name for name in ("ingredients", "choice") if name in tasks]
    units = "IoU, F1 and accuracy are times 100, as the papers print them. " if times100 else ""
    curves = {
        stage: f"Loss of each step (faint) and its mean over {window(len(log))} steps"
        + ("; rings: loss on held-out samples" if inputs.validation.get(stage) else "")
        + ". The last step of an epoch may hold fewer samples than the others"
        for stage, log in inputs.logs.items()
    }
    cue = CUE_AS_RELEASED if form == "released" else TEXTS["cue"]
    return {
        **TEXTS,
        "cue": cue,
        "time": TEXTS["time"] + _on_gpu(inputs.gpu),
        "units": units + TEXTS["units"],
        **{f"curve_{stage}": said for stage, said in curves.items()},
    }


_DECODING = {"Dual-LoRA": "dual_lora", "top-2 of 4 experts": "top-2 of 4", "RoDE": "rode"}


def _on_gpu(found: Mapping[str, Any]) -> str:
    """Decoding on the card that benchmarks/gpu.py ran on; empty where it ran on none."""
    rows = {row["row"]: row["value"] for phase in found.get("phases", {}).values() for row in phase["rows"]}
    values = {name: rows.get(f"decode {key} / lora, batch 1") for name, key in _DECODING.items()}
    measured = ", ".join(f"{name} {value:.3f}" for name, value in values.items() if value is not None)
    if not measured or found.get("tiny"):
        return ""
    return f" On an {found['card']}, a token at 7B's size (random weights): {measured}."
