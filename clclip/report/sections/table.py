"""The results table: its numbers, and the plain text that the main job ends with."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from clclip.core.artifacts import PARTS, PerPart
from clclip.evaluation.continual import deviation
from clclip.report.benchmark import Benchmark, Experiment, final_and_best, retention

TEXT_WIDTH = 96


@dataclass(frozen=True)
class Difference:
    """One experiment's final A minus the baseline's.

    Attributes:
        value: mean difference, in points.
        std: over seeds, None for fewer than two.
        paired: whether the two ran the same seeds.
    """

    value: float
    std: float | None
    paired: bool


@dataclass(frozen=True)
class Row:
    """One line of the results table; numbers in percent, None where they do not exist."""

    experiment: Experiment
    rank: int | None
    final: PerPart
    std: PerPart
    forgetting: float | None
    forgetting_std: float | None
    average: float | None
    retention: float | None
    difference: Difference | None
    interval: str = ""


def rows(benchmark: Benchmark) -> list[Row]:
    """Return the lines of one benchmark, best first; the upper bound last and without a rank."""
    lines, better = [], 0
    for experiment in benchmark.experiments:
        summary = experiment.summary
        better += not experiment.joint
        lines.append(
            Row(
                experiment,
                None if experiment.joint else better,
                summary["final"],
                summary["std"],
                summary["forgetting"],
                deviation([row["forgetting"] for row in summary.get("per_seed", [])]),
                summary.get("average"),
                retention(experiment),
                difference(experiment, benchmark.baseline),
                interval(summary.get("interval")),
            )
        )
    return lines


def difference(experiment: Experiment, baseline: Experiment | None) -> Difference | None:
    """Return how far an experiment's final A lies above the baseline's, paired by seed."""
    if baseline is None or baseline is experiment:
        return None
    mine, other = experiment.per_seed(), baseline.per_seed()
    pairs = [(mine[seed], other.get(seed)) for seed in mine]
    gaps = [a - b for a, b in pairs if a is not None and b is not None]
    if gaps and len(gaps) == len(mine) == len(other):
        return Difference(sum(gaps) / len(gaps), deviation(gaps), True)
    end, rival = experiment.summary["final"]["A"], baseline.summary["final"]["A"]
    return None if end is None or rival is None else Difference(end - rival, None, False)


def number(value: float | None, std: float | None = None, sign: bool = False) -> str:
    """Return a percentage with one decimal, "-" for none, with the deviation if there is one."""
    if value is None:
        return "–"
    text = f"{value:+.1f}" if sign else f"{value:.1f}"
    text = text.replace("-", "−")
    text = text.replace("−0.0", "0.0") if text == "−0.0" else text
    return f"{text} ± {std:.1f}" if std is not None else text


def interval(bounds: Sequence[float] | None) -> str:
    """Return "76.1–81.8" of an interval over test images, "" for none."""
    return f"{bounds[0]:.1f}–{bounds[1]:.1f}" if bounds else ""


def text_table(benchmarks: Sequence[Benchmark]) -> str:
    """Return the tables of all benchmarks and what they say, as plain text for a terminal."""
    blocks = []
    for benchmark in benchmarks:
        lines = rows(benchmark)
        over = any(line.interval for line in lines)  # 95 % over test images
        head = ["", "method", *[benchmark.part_name(p) for p in PARTS], *["95 %"] * over]
        head += ["forgetting", "seeds"]
        body = [
            [
                str(line.rank or ""),
                line.experiment.label + (" (upper bound)" if line.experiment.joint else ""),
                *[number(line.final[part], line.std[part]) for part in PARTS],
                *[line.interval or "–"] * over,
                number(line.forgetting, line.forgetting_std),
                str(len(line.experiment.summary["seeds"])),
            ]
            for line in lines
        ]
        widths = [max(len(row[k]) for row in [head, *body]) for k in range(len(head))]
        table = [
            "  ".join(
                cell.ljust(width) if k < 2 else cell.rjust(width)
                for k, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in [head, *body]
        ]
        rule = "─" * max(map(len, table))
        metric = benchmark.first.get("metric") or "score"
        title = f"{benchmark.title}: {metric} in percent after the last task"
        said = textwrap.wrap(headline(benchmark), TEXT_WIDTH)
        if empty := unscored(benchmark):
            names = f"Without test instances, and so left out of every mean: {', '.join(empty)}."
            said += textwrap.wrap(names, TEXT_WIDTH)
        blocks.append("\n".join([title, rule, table[0], rule, *table[1:], rule, *said]))
    return "\n\n".join(blocks) + "\n"


def unscored(benchmark: Benchmark) -> list[str]:
    """Return the classes without test instances, sorted."""
    summaries = [experiment.summary for experiment in benchmark.experiments]
    return sorted({name for each in summaries for name in each.get("empty_classes", [])})


def headline(benchmark: Benchmark) -> str:
    """Return what the numbers say, in one or two sentences; written from the data alone."""
    if not benchmark.contestants:
        return "Only the upper bound was run: there is nothing to compare it with."
    best = benchmark.contestants[0]
    final = best.summary["final"]["A"]
    if final is None:
        return f"{best.label} could not be scored: no class has test instances."
    rest = benchmark.contestants[1:]
    rival = benchmark.baseline if benchmark.baseline in rest else next(iter(rest), None)
    over = scored_classes(best, benchmark.groups)
    over += "" if over.startswith("all") else " (the others have no test instances)"
    score = f"{final:.1f} {'mAP@A' if benchmark.detection else '% accuracy'}"
    gaps = []
    gap = difference(best, rival)
    if rival and gap:
        gaps.append(f"{number(gap.value, gap.std)} points above {rival.label}")
    if benchmark.upper and benchmark.upper.summary["final"]["A"] is not None:
        short = benchmark.upper.summary["final"]["A"] - final
        gaps.append(f"{abs(short):.1f} {'below' if short >= 0 else 'above'} joint training")
    tail = (", " + " and ".join(gaps) if gaps else "") + "."
    if retention(best) is None:
        return f"{best.label} ends with {score} over {over}{tail}"
    earlier = scored_classes(best, benchmark.groups[:-1], "earlier classes")
    first = f"{best.label} keeps {_retained_text(best)} on {earlier}"
    if rival and retention(rival) is not None:
        first += f"; {rival.label} keeps {_retained_text(rival)}"
    return f"{first}. After the last task it scores {score} over {over}{tail}"


def scored_classes(
    experiment: Experiment, groups: Sequence[Sequence[str]], noun: str = "classes"
) -> str:
    """Return how many classes of ``groups`` a mean is over: those with test instances."""
    empty = set(experiment.summary.get("empty_classes", []))
    names = [name for group in groups for name in group]
    scored = sum(name not in empty for name in names)
    if scored == len(names):
        return f"all {scored} {noun}" if noun == "classes" else f"the {noun}"
    return f"{scored} of {len(names)} {noun}"


def _retained_text(experiment: Experiment) -> str:
    """Return what is left of an experiment's score on the earlier classes, in words."""
    scores = final_and_best(experiment)
    assert scores is not None  # asked only where retention() is known
    now, best = scores
    return f"{retention(experiment):.0f} % of its score ({now:.1f} of {best:.1f})"


def caveat(benchmark: Benchmark) -> str:
    """Return how far the numbers can be trusted: seeds and spread."""
    counts = sorted({len(e.summary["seeds"]) for e in benchmark.experiments})
    if counts == [1]:
        one = "One seed" if len(benchmark.experiments) == 1 else "One seed each"
        return f"{one}: the spread between seeds is unknown, small gaps prove nothing."
    if counts[0] == 1:
        return f"Between one and {counts[-1]} seeds; a method with one seed shows no spread."
    return f"Mean ± standard deviation over {' to '.join(map(str, counts))} seeds."
