"""The report from its inputs: one context of finished texts, rendered as a page and as Markdown.

Both forms print the same strings, so that their numbers cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from components.files import write_text
from components.params import Params
from components.report import answers, charts, entropy, experts, records, skill_space
from components.report.assumptions import assumptions
from components.report.comparisons import answers_of, comparisons
from components.report.inputs import Inputs
from components.report.ledger import LedgerTable, PublishedTable, ThisRun, ledger, read_published
from components.report.pictures import is_wide, picture, write_enlarged
from components.report.results import differences, headline, metrics_table
from components.report.search import search_shown
from components.report.size_and_time import measured_sizes, published_sizes, size_chart, time_chart, times
from components.svg import alone

TEMPLATES = Path(__file__).with_name("templates")
STAGES = {"pretrain": "Stage 1: projector and VCE", "finetune": "Stage 2: projector, VCE and adapter"}


TEXTS = {  # what both forms say beside the numbers
    "rows": "The models answer the same held-out questions. Blind is the model after stage 2, shown the image of "
    "another dish: what it scores there it knows without looking; it is asked only what has an image. The mean "
    "predicts the average of the training data, of nutrition alone.",
    "units": "IoU, F1 and accuracy are times 100, as the papers print them. pMAE is the mean absolute error in percent "
    "of the mean true value; the columns beside it are its parts. Bold: best of its column. ↓: lower is better.",
    "differences": "Points in the units above, with paired bootstrap intervals over the test samples (95\u00a0%). "
    "Undecided: the interval holds the point of no difference.",
    "samples": "Held-out images with the question, the true answer and the answer after stage 2. The visual cue shows "
    "where VCE adds to the image's features, brighter for more.",
    "entropy": "Entropy of each adapted layer's skill space, before and after the task space rectifies it, as a mean "
    "over the tasks.",
    "distribution": "How each layer's energy is spread over its units, largest first, as a mean over tokens and tasks.",
    "entropy_table": "Entropy before and after rectification in nats, and the share of task units at zero.",
    "experts": "Mean router weight of each expert over the tokens of test questions with their true answers, and the "
    "share of tokens for which an expert is switched off (weight exactly zero).",
    "data": "Records are samples: one question with its answer. Kept and rejected add up to read. Samples that share "
    "an image or a group never stand in two splits.",
    "comparisons": "Each row is a model of its own, trained and asked on this project's data with the settings of the "
    "paper's row. Differences are to the first row, in points, with paired bootstrap intervals over the test questions "
    "(95\u00a0%) of the mean over seeds; what stands in colour excludes no difference.",
    "size_published": "IoU by size as the paper prints it (Figure 7, appendix Table 2): only the adapter is trained.",
    "size_here": "The same here, on the ranks of this profile.",
    "size_not_here": "Not measured here; python -m pipelines.tables ranks does it.",
    "time": "Time of a forward pass against LoRA's (Figure 8): the paper's from GPUs, ours from a CPU, as told under "
    "the published results, where a second LoRA shows how far chance reaches.",
    "ledger": "What the two papers print, and what is known of it here. A figure counts as measured here only when a "
    "run holds the paper's base and settings. What the same method scored here on other data and another base stands "
    "below it for orientation; the two cannot be compared.",
}
SECTIONS = {
    "results": "Results",
    "comparisons": "The paper's tables, run here",
    "size-and-time": "Size and time",
    "training": "Training",
    "samples": "Test images",
    "skill-space": "Skill space",
    "experts": "Experts",
    "search": "Search",
    "data": "Data",
    "published": "Published results",
    "registry": "Registry",
    "settings": "Settings",
    "assumed": "Assumed and unverified",
}


@dataclass(frozen=True)
class Shown:
    """A test image with everything asked about it. `pictures`: file under evaluation/insight, what it shows."""

    number: int
    pictures: list[tuple[str, str]]
    asked: list[answers.Asked]


def write_report(inputs: Inputs, this_run: ThisRun, folder: Path) -> None:
    """Write report.html, report.md and images/ (for Markdown) into an empty folder."""
    context = build(inputs, this_run)
    pictures = folder / "images"
    pictures.mkdir(parents=True)
    for shown in context["samples"]:
        for name, _ in shown.pictures:
            write_enlarged(inputs.insight / name, pictures / name)
    for name, svg in context["charts"].items():
        write_text(pictures / f"{name}.svg", alone(svg))
    write_text(folder / "report.html", render("page.html", context, inputs))
    write_text(folder / "report.md", render("page.md.j2", context, inputs))


def build(inputs: Inputs, this_run: ThisRun) -> dict[str, Any]:
    """Everything the templates print. A part whose input is missing is empty and its section left out."""
    params = this_run.params
    compared = differences(inputs.metrics)
    entropies = entropy.layer_entropies(inputs.entropy)
    assumed, unverified = assumptions(params.model_dump())
    drawn = {stage: charts.loss_chart(log, STAGES[stage]) for stage, log in inputs.logs.items()}
    drawn["differences"] = charts.difference_chart(compared)
    drawn["entropy"] = entropy.entropy_chart(entropies) if entropies else None
    spread = skill_space.distributions(inputs.skill_space)
    drawn["distribution"] = skill_space.distribution_chart(spread) if spread else None
    printed = read_published()
    known = ledger(printed, this_run)
    drawn |= size_and_time(inputs, printed, known)
    compared_methods = comparisons(inputs.tables, this_run.data_digest)
    registration = records.registration_of(inputs.registration)
    search = search_shown(inputs.search)
    drawn |= {f"search_{name}": svg for name, svg in search.charts.items()} if search else {}
    context = {
        "params": params,
        "headline": headline(inputs.metrics),
        "facts": facts(params, registration),
        "table": metrics_table(inputs.metrics),
        "differences": compared,
        "charts": {name: svg for name, svg in drawn.items() if svg},
        "stages": [(stage, STAGES[stage], records.log_summary(log)) for stage, log in inputs.logs.items()],
        "samples": shown_samples(inputs, params.evaluate.samples_shown, this_run.data_digest),
        "marks": [(mark, sign, answers.MEANINGS[mark]) for mark, sign in answers.SIGNS.items()],
        "entropy_sentence": entropy.sentence(entropies) if entropies else None,
        "zero_share": entropy.zero_share(inputs.entropy) if entropies else None,
        "entropy_table": skill_space.entropy_table(inputs.entropy) if entropies else None,
        "experts_sentence": experts.sentence(inputs.experts) if inputs.experts else None,
        "expert_tables": experts.expert_tables(inputs.experts) if inputs.experts else [],
        "search": search,
        "data": records.data_rows(inputs.manifests, inputs.splits),
        "splits": records.SPLITS,
        "registration": registration,
        "comparisons": compared_methods,
        "ledger": known,
        "settings": records.key_settings(params),
        "assumed": assumed,
        "unverified": unverified,
        "texts": TEXTS,
    }
    left_out = {
        "comparisons": not compared_methods,
        "training": not context["stages"],
        "samples": not context["samples"],
        "skill-space": not entropies,
        "experts": not inputs.experts,
        "search": search is None,
        "data": not context["data"],
        "registry": registration is None,
    }
    context["contents"] = [(id, title) for id, title in SECTIONS.items() if not left_out.get(id)]
    return context


def size_and_time(inputs: Inputs, printed: list[PublishedTable], known: list[LedgerTable]) -> dict[str, str | None]:
    """Figures 7 and 8: the paper's, and ours as far as they were measured."""
    ours = measured_sizes(inputs.tables.get("ranks"))
    timed = known[[table.id for table in printed].index("time")]
    return {
        "size_published": size_chart(published_sizes(printed), "the paper's 7B model"),
        "size_here": size_chart(ours, f"profile {inputs.tables['ranks']['profile']}") if any(ours.values()) else None,
        "time": time_chart(times(timed)),
    }


def facts(params: Params, registration: records.Registration | None) -> list[tuple[str, str]]:
    """The line under the headline."""
    shown = [
        ("profile", params.profile),
        ("adapter", f"{params.adapter.kind}, rank {params.adapter.rank}"),
        ("VCE", "on" if params.vce.enabled else "off"),
        ("seed", str(params.seed)),
    ]
    if registration:
        shown.append(("model", f"{registration.name} version {registration.version}"))
    return shown


def shown_samples(inputs: Inputs, most: int, data_digest: str) -> list[Shown]:
    """The samples of samples.json; a picture whose file is missing is left out."""
    return [
        Shown(
            number,
            pictures_of(inputs.insight, entry),
            [answers.asked(item, answers_of(inputs.tables, item, data_digest)) for item in entry["items"]],
        )
        for number, entry in enumerate(inputs.samples[:most], start=1)
    ]


def pictures_of(folder: Path, entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(file, what it shows). A heat map that holds the image beside the cue needs no second image."""
    image, heat = (name if name and (folder / name).is_file() else None for name in (entry["image"], entry["heat_map"]))
    if heat and is_wide(folder / heat):
        return [(heat, "image as the model sees it, and its visual cue")]
    return [(name, said) for name, said in ((image, "image"), (heat, "visual cue")) if name]


def render(template: str, context: dict[str, Any], inputs: Inputs) -> str:
    """Fill a template; a name it does not know is an error, never an empty place."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=template.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["picture"] = lambda name: picture(inputs.insight / name)
    environment.filters["cell"] = markdown_cell
    return environment.get_template(template).render(context)


def markdown_cell(content: str) -> str:
    """Text that cannot end a cell of a Markdown table or start markup."""
    plain = " ".join(str(content).split())
    for sign in "\\|*_<>`[]":
        plain = plain.replace(sign, f"\\{sign}")
    return plain
