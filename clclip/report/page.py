"""The report: one self-contained page, its figures as files, and the results as text and CSV."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from clclip.core.artifacts import PARTS, Part
from clclip.core.errors import InputError
from clclip.core.files import read_json, write_text
from clclip.evaluation.aggregate import write_summary_csv
from clclip.report import charts
from clclip.report.benchmark import Benchmark, Experiment, load, palette_colours, retention
from clclip.report.figures import write_figures
from clclip.report.sections import conditions, gallery, table, timing
from clclip.report.sections.about_data import about_data, as_text
from clclip.report.sections.answers import answers as show_answers
from clclip.report.sections.calibration import key as trust_key
from clclip.report.sections.calibration import thresholds, trust
from clclip.report.sections.causes import LOOKS, why
from clclip.report.sections.cost_maps import cost_maps
from clclip.report.sections.drift import drift
from clclip.report.sections.heatmap import heatmap, tone
from clclip.report.sections.semantics import semantics
from clclip.report.sections.unseen import unseen

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
STYLE: dict[str, Any] = {
    "title": "What was learned, what was forgotten",
    "examples": 8,
    "palette": "okabe_ito",
    "format": "svg",
    "dpi": 120,
}
SCRIPTS = ("page.js", "tables.js")
MOST_BYTES = 15 * 2**20
ASPECTS: dict[Part, str] = {"P": "earlier classes", "C": "current classes", "A": "all seen classes"}


def report(summaries: Sequence[Path], out: Path, style: Mapping[str, Any]) -> str:
    """Write the report and what lies beside it; return the table and the data's warnings as text.

    Args:
        summaries: results/EXPERIMENT/summary.json files.
        out: the page, e.g. results/report.html. Beside it: figures/, summary.csv, table.txt. Logs
            and predictions are looked for beside the summaries, images and features in
            ../resources.
        style: looks: ``title``, ``examples`` (images of the gallery), ``palette`` (``okabe_ito``
            or a colour map of matplotlib), ``format`` (svg or png) and ``dpi`` of the figure files.

    Raises:
        InputError: if a summary is missing or broken.
    """
    looks = STYLE | {key: value for key, value in style.items() if value is not None}
    benchmarks = load(summaries, looks["palette"])
    resources = summaries[0].parent.parent.parent / "resources"
    every = [experiment for benchmark in benchmarks for experiment in benchmark.experiments]
    text = table.text_table(benchmarks) + as_text(about_data(every, resources))
    write_text(out.parent / "table.txt", text)
    write_summary_csv(summaries, out.parent / "summary.csv")
    write_figures(benchmarks, out.parent / "figures", looks["format"], looks["dpi"])
    count = looks["examples"]
    page = render(benchmarks, resources, looks, count)
    while len(page.encode()) > MOST_BYTES and count > 0:
        count //= 2
        logger.warning("the page is too large: only %d images per benchmark are shown", count)
        page = render(benchmarks, resources, looks, count)
    write_text(out, page)
    logger.info("report written to %s", out)
    return text


def render(
    benchmarks: Sequence[Benchmark], resources: Path, style: Mapping[str, Any], count: int
) -> str:
    """Return the page; ``count`` images per benchmark."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "points": table.number,
        "signed": lambda value: table.number(value, sign=True),
        "mark": lambda experiment, benchmark: charts.legend_mark(benchmark, experiment),
        "duration": timing.duration,
        "alt_text": alt_text,
        "cosine": lambda value: f"{round(value, 2) + 0.0:.2f}".replace("-", "−"),
        "trust_key": trust_key,
        "tone": tone,
    }
    experiments = [e for benchmark in benchmarks for e in benchmark.experiments]
    results = experiments[0].folder.parent
    names = [experiment.folder.name for experiment in experiments]
    stages, reruns = timing.stages(results, resources, names), timing.reruns(results, names)
    return environment.get_template("template.html").render(
        title=style["title"],
        css=Markup(colours(style["palette"]) + (HERE / "page.css").read_text(encoding="utf-8")),
        scripts=[Markup((HERE / name).read_text(encoding="utf-8")) for name in SCRIPTS],
        comparisons=[(c, conditions.drawn(c)) for c in conditions.side_by_side(benchmarks)],
        sections=[section(benchmark, resources, count) for benchmark in benchmarks],
        stages=stages,
        total=sum(stage.seconds for stage in stages),
        reruns=reruns,
        rerun_tasks=max((len(row.from_task) for row in reruns), default=0),
        versions=sorted(experiments[0].summary.get("versions", {}).items()),
        clips=clips(experiments, resources),
        configs=configs(experiments),
        about_data=about_data(experiments, resources),
    )


def section(benchmark: Benchmark, resources: Path, count: int) -> dict[str, Any]:
    """Return what the template shows of one benchmark."""
    lines = table.rows(benchmark)
    several = len(benchmark.groups) > 1 and any(
        len(e.summary["tasks"]) > 1 for e in benchmark.experiments
    )
    return {
        "setting": benchmark,
        "headline": table.headline(benchmark),
        "caveat": table.caveat(benchmark),
        "cards": cards(benchmark),
        "rows": lines,
        "best": _best(lines),
        "empty": table.unscored(benchmark),
        "charts": [(p, text, charts.curves(benchmark, p)) for p, text in ASPECTS.items()]
        if several
        else [],
        "band": any(len(e.summary["seeds"]) > 1 for e in benchmark.contestants),
        "heat": heatmap(benchmark),
        "semantics": semantics(benchmark),
        "why": why(benchmark),
        "drift": drift(benchmark),
        "trust": trust(benchmark),
        "thresholds": thresholds(benchmark),
        "unseen": unseen(benchmark),
        "seeds": benchmark.shown_seeds,
        **_images(benchmark, resources, count),
    }


def _best(lines: Sequence[table.Row]) -> dict[str, float | None]:
    """Return the best number of every column, the upper bound aside."""
    known = [line for line in lines if not line.experiment.joint]
    best: dict[str, float | None] = {
        part: max((v for x in known if (v := x.final[part]) is not None), default=None)
        for part in PARTS
    }
    best["forgetting"] = min(
        (x.forgetting for x in known if x.forgetting is not None), default=None
    )
    return best


def _images(benchmark: Benchmark, resources: Path, count: int) -> dict[str, Any]:
    """Return what shows test images, each with the reason where it cannot be shown."""
    pictures, no_pictures = [], "No test image is shown: the option `examples` is 0."
    answers = []
    maps, no_maps = [], "There is no feature store to read the maps from."
    if benchmark.detection:
        try:
            pictures = gallery.pictures(benchmark, resources, count)
        except (InputError, KeyError) as error:
            no_pictures = f"The test images are not shown: {error}."
            logger.warning("no gallery for %s: %s", benchmark.title, error)
        try:
            maps = cost_maps(benchmark, resources) if count else []
        except (InputError, KeyError, ValueError, OSError) as error:
            no_maps = f"The maps are not shown: {error}."
            logger.warning("no cost volume for %s: %s", benchmark.title, error)
    else:
        try:
            answers = show_answers(benchmark, resources, 2 * count)
        except (InputError, KeyError) as error:
            no_pictures = f"The test images are not shown: {error}."
            logger.warning("no answers for %s: %s", benchmark.title, error)
    return {
        "pictures": pictures,
        "picture_classes": gallery.all_classes(pictures),
        "no_pictures": no_pictures,
        "answers": answers,
        "answer_classes": sorted({shown.label for shown in answers}),
        "maps": maps,
        "no_maps": no_maps,
    }


def cards(benchmark: Benchmark) -> list[dict[str, str]]:
    """Return the few numbers to remember: best method, baseline, upper bound."""
    if not benchmark.contestants:
        return []
    best = benchmark.contestants[0]
    final = _final_a(best)
    if final is None:
        return []
    others = benchmark.contestants[1:]
    rival = benchmark.baseline if benchmark.baseline in others else next(iter(others), None)
    unit = benchmark.part_name("A")
    over = table.scored_classes(best, benchmark.groups)
    over = "all classes" if over.startswith("all") else over
    shown = [_card(f"{best.label}, {over}", final, unit, rival, _final_a)]
    share = retention(best)
    if share is not None:
        shown.append(_card("Kept of the earlier classes", share, "%", rival, retention))
    forgetting = best.summary["forgetting"]
    if forgetting is not None:
        shown.append(_card("Forgetting", forgetting, "points", rival, _forgetting))
    upper = _final_a(benchmark.upper) if benchmark.upper else None
    if benchmark.upper and upper is not None:
        gap = upper - final
        name = "Below joint training" if gap >= 0 else "Above joint training"
        shown.append(_card(name, abs(gap), "points", None, _final_a))
        part = f", {100 * (1 - gap / upper):.0f} % of it" if upper > 0 else ""
        shown[-1]["than"] = f"{benchmark.upper.label}: {upper:.1f}{part}"
    return shown


def _final_a(experiment: Experiment) -> float | None:
    """Return the final A."""
    return experiment.summary["final"]["A"]


def _forgetting(experiment: Experiment) -> float | None:
    """Return the forgetting."""
    return experiment.summary["forgetting"]


def _card(name: str, value: float, unit: str, rival: Experiment | None, of: Any) -> dict[str, str]:
    """Return one card, with the rival's number below."""
    other = of(rival) if rival else None
    than = f"{rival.label}: {table.number(other)}" if rival and other is not None else ""
    return {"name": name, "value": table.number(value), "unit": unit, "than": than}


def alt_text(panel: gallery.Panel) -> str:
    """Return the text alternative of a panel, for screen readers."""
    boxes = [(box, (box.score or 0.0) >= gallery.SHOWN_SCORE) for box in panel.boxes]
    right = [box.name for box, shown in boxes if shown and box.state == "right"]
    wrong = [box.name for box, shown in boxes if shown and box.state == "wrong"]
    missed = [box.name for box, shown in boxes if box.state == "object" and not shown]
    parts = [("right", right), ("wrong", wrong), ("missed", missed)]
    return "; ".join(f"{word}: {', '.join(names) or 'none'}" for word, names in parts)


def colours(palette: str) -> str:
    """Return CSS variables of the methods' and the causes' colours, lightened for the dark look."""
    light = {f"--m{k}": colour for k, colour in enumerate(palette_colours(palette))}
    light |= {f"--cause{k}": colour for k, (colour, _) in enumerate(LOOKS.values())}

    def write(values: Mapping[str, str]) -> str:
        return "".join(f"{name}:{value};" for name, value in values.items())

    dark = {name: f"color-mix(in oklab, {value} 72%, white)" for name, value in light.items()}
    return (
        f":root{{{write(light)}}}\n"
        "@media screen and (prefers-color-scheme:dark)"
        f'{{:root:not([data-theme="light"]){{{write(dark)}}}}}\n'
        f'@media screen{{:root[data-theme="dark"]{{{write(dark)}}}}}\n'
    )


def clips(experiments: Sequence[Experiment], resources: Path) -> list[dict[str, Any]]:
    """Return the description of every CLIP that was used."""
    used = (e.summary["versions"].get("clip") for e in experiments if "versions" in e.summary)
    names = sorted({name for name in used if name is not None})
    rows = []
    for name in names:
        path = resources / "clip" / name / "clip.json"
        about = read_json(path) if path.exists() else {}
        keys = ("model", "tag", "source")
        rows.append({"id": name} | {key: about.get(key) for key in keys})
    return rows


def configs(experiments: Sequence[Experiment]) -> list[tuple[str, str]]:
    """Return (experiment, its last task.json, indented)."""
    rows = []
    for experiment in experiments:
        path = experiment.task_dir(experiment.summary["tasks"][-1]["task"]) / "task.json"
        if path.exists():
            rows.append((experiment.name, json.dumps(read_json(path), indent=2, sort_keys=True)))
    return rows
