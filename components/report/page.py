"""The report from its inputs: one context of finished texts, rendered as a page and as Markdown.

Both forms print the same strings, so that their numbers cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from components.files import write_text
from components.report import answers, charts, entropy, experts, records, skill_space
from components.report.assumptions import assumptions
from components.report.comparisons import answers_of, comparisons
from components.report.depth import Label, by_depth
from components.report.forms import form_of
from components.report.headline import headline
from components.report.hub import write_hub
from components.report.inputs import Inputs
from components.report.ledger import LedgerTable, ThisRun, ledger, read_published
from components.report.meanings import row_meanings
from components.report.origin import facts, trained_on_what
from components.report.pictures import is_wide, picture, write_enlarged
from components.report.results import OURS, ROWS, Difference, differences, metrics_table
from components.report.search import search_shown
from components.report.size_and_time import measured_sizes, published_sizes, size_chart, time_chart, times
from components.report.tasks import tasks_chart
from components.report.texts import texts
from components.svg import alone

TEMPLATES = Path(__file__).with_name("templates")
STAGES = {"pretrain": "Stage 1: projector and VCE", "finetune": "Stage 2: projector, VCE and adapter"}


SECTIONS = {
    "results": "Results",
    "comparisons": "The paper's tables, repeated here",
    "training": "Training",
    "samples": "Test images",
    "skill-space": "Skill space",
    "experts": "Experts",
    "search": "Search",
    "data": "Data",
    "published": "Published figures",
    "registry": "Registry",
    "settings": "Settings",
    "assumed": "Assumed and unverified",
}


NEEDED = {  # section -> what must not be empty for it to stand in the page
    "comparisons": "comparisons",
    "training": "stages",
    "samples": "samples",
    "skill-space": "entropy_sentence",
    "experts": "experts_sentence",
    "search": "search",
    "data": "data",
    "registry": "registration",
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
    write_hub(folder, context["trained"], context["headline"], inputs, this_run.data_digest)


def build(inputs: Inputs, this_run: ThisRun) -> dict[str, Any]:
    """Everything the templates print. A part whose input is missing is empty and its section left out."""
    params, metrics = this_run.params, inputs.metrics
    registration = records.registration_of(inputs.registration)
    assumed, unverified = assumptions(params.model_dump(), list(metrics.get(OURS, {})))
    compared = differences(metrics, inputs.asked)
    known = ledger(read_published(), this_run)
    label = by_depth(row["layer"] for row in [*inputs.entropy, *inputs.experts])
    samples = shown_samples(inputs, params.evaluate.samples_shown, this_run.data_digest)
    context = {
        "params": params,
        "texts": texts(metrics, inputs, form_of(params.model_dump())),
        "headline": headline(metrics, inputs.asked),
        "trained": trained_on_what(params, inputs),
        "facts": facts(this_run, inputs, registration),
        "table": metrics_table(metrics, inputs.asked),
        "row_meanings": row_meanings(metrics, ROWS),
        "differences": compared,
        "charts": drawn(inputs, this_run, compared, known, label),
        "stages": [(stage, STAGES[stage], records.log_summary(log)) for stage, log in inputs.logs.items()],
        "samples": samples,
        "marks": marks(samples),
        **inside(inputs, label),
        "search": search_shown(inputs.search),
        "data": records.data_rows(inputs.manifests, inputs.splits),
        "splits": records.SPLITS,
        "registration": registration,
        "comparisons": comparisons(inputs.tables, this_run.data_digest),
        "ledger": known,
        "settings": records.key_settings(params),
        "assumed": assumed,
        "unverified": unverified,
    }
    context["contents"] = [(id, title) for id, title in SECTIONS.items() if context[NEEDED.get(id, "settings")]]
    return context


def inside(inputs: Inputs, label: Label) -> dict[str, Any]:
    """Skill space and experts; None or empty where the model has none."""
    entropies = entropy.layer_entropies(inputs.entropy)
    return {
        "entropy_sentence": entropy.sentence(entropies) if entropies else None,
        "zero_share": entropy.zero_share(inputs.entropy) if entropies else None,
        "entropy_table": skill_space.entropy_table(inputs.entropy, label) if entropies else None,
        "experts_sentence": experts.sentence(inputs.experts) if inputs.experts else None,
        "expert_tables": experts.expert_tables(inputs.experts, label) if inputs.experts else [],
    }


def drawn(
    inputs: Inputs, this_run: ThisRun, compared: Sequence[Difference], known: list[LedgerTable], label: Label
) -> dict[str, str]:
    """SVG by name; what cannot be drawn is left out."""
    found: dict[str, str | None] = {
        stage: charts.loss_chart(log, STAGES[stage], inputs.validation.get(stage, []))
        for stage, log in inputs.logs.items()
    }
    found["differences"] = charts.difference_chart(compared)
    entropies = entropy.layer_entropies(inputs.entropy, label)
    found["entropy"] = entropy.entropy_chart(entropies) if entropies else None
    spread = skill_space.distributions(inputs.skill_space, label)
    found["distribution"] = skill_space.distribution_chart(spread) if spread else None
    found |= size_and_time(inputs, this_run, known)
    swept = inputs.tables.get("tasks")
    found["tasks"] = tasks_chart(swept if swept and swept["data_digest"] == this_run.data_digest else None)
    search = search_shown(inputs.search)
    found |= {f"search_{name}": svg for name, svg in search.charts.items()} if search else {}
    return {name: svg for name, svg in found.items() if svg}


def size_and_time(inputs: Inputs, this_run: ThisRun, known: list[LedgerTable]) -> dict[str, str | None]:
    """Figures 7 and 8: the paper's, and ours as far as they were measured, on this run's data."""
    printed = read_published()
    ranks = inputs.tables.get("ranks")
    ours = measured_sizes(ranks if ranks and ranks["data_digest"] == this_run.data_digest else None)
    timed = known[[table.id for table in printed].index("time")]
    return {
        "size_published": size_chart(published_sizes(printed), "the paper's 7B model"),
        "size_here": size_chart(ours, f"profile {inputs.tables['ranks']['profile']}") if any(ours.values()) else None,
        "time": time_chart(times(timed)),
    }


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


def marks(samples: Sequence[Shown]) -> list[tuple[answers.Mark, str, str]]:
    """The legend of the signs beside answers; nothing where no answer is taken apart."""
    given = [answer for shown in samples for asked in shown.asked for answer in [*asked.all, *asked.methods]]
    used = {item.mark for answer in given for item in answer.marked}
    return [(mark, sign, answers.MEANINGS[mark]) for mark, sign in answers.SIGNS.items() if used]


def pictures_of(folder: Path, entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(file, what it shows). A heat map that holds the image beside the cue needs no second image."""
    rests = entry.get("occlusion")
    named = (entry["image"], entry["heat_map"], rests["image"] if rests else None)
    image, heat, covered = (name if name and (folder / name).is_file() else None for name in named)
    shown: list[tuple[str | None, str]] = [(image, "image"), (heat, "size of the raw cue")]
    if heat and is_wide(folder / heat):
        shown = [(heat, "image as the model sees it, and the size of the raw cue")]
    said = f"what the answer rests on (largest drop {rests['largest_drop']:.2f} nats)" if rests else ""
    return [(name, said) for name, said in [*shown, (covered, said)] if name]


def render(template: str, context: dict[str, Any], inputs: Inputs) -> str:
    """Fill a template; a name it does not know is an error, never an empty place."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=template.endswith(".html"),
        finalize=None if template.endswith(".html") else without_tags,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["picture"] = lambda name: picture(inputs.insight / name)
    environment.filters["cell"] = markdown_cell
    return environment.get_template(template).render(context)


def without_tags(content: Any) -> Any:
    """No text in Markdown opens an HTML tag, whoever wrote it."""
    return content.replace("<", "&lt;") if isinstance(content, str) else content


def markdown_cell(content: str) -> str:
    """Text that cannot end a cell of a Markdown table or start markup."""
    plain = " ".join(str(content).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in "\\|*_`[]~#":
        plain = plain.replace(sign, f"\\{sign}")
    return plain
