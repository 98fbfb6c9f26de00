"""README.md of a model folder: a model card in the form that the Hugging Face hub reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clclip.core.task import has_boxes
from clclip.model.kinds import KINDS


def readme(card: Mapping[str, Any], name: str) -> str:
    """Return the model card.

    Args:
        card: card.json.
        name: what the model is called: its folder's name.
    """
    sections = (
        _front(card, name),
        _intro(card, name),
        _usage(card),
        _classes(card),
        _parts(card),
        _pixels(card),
        _limits(card),
        _files(card),
    )
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _front(card: Mapping[str, Any], name: str) -> str:
    """Return the YAML front matter."""
    from huggingface_hub import EvalResult, ModelCardData

    (task, metric), results = KINDS[card["kind"]].hub, []
    scores = card.get("scores") or {}
    value = scores.get("metrics", {}).get("A")
    if value is not None:
        data = card["parts"][-1]["data"]["id"]
        label = f"{scores['metric']}, all classes seen, percent"
        results = [EvalResult(task, data, data, metric, value, metric_name=label)]
    front = ModelCardData(
        library_name="clclip",
        pipeline_tag=task,
        tags=["continual-learning", "clip", card["method"]],
        model_name=name if results else None,
        eval_results=results or None,
    )
    return f"---\n{front.to_yaml()}\n---"


def _intro(card: Mapping[str, Any], name: str) -> str:
    verb = KINDS[card["kind"]].verb
    clip, many = card["clip"], len(card["parts"])
    tag = f" ({clip['tag']})" if clip.get("tag") else ""
    tasks = f"{many} task{'s' * (many > 1)}"
    return f"""# {name}

A continual model of clclip: it {verb} {len(card["classes"])} classes, learned in {tasks} by the
method `{card["method"]}` on the frozen CLIP {clip["model"]}{tag}. New classes can be added from
their own images alone, and classes can be dropped."""


def _usage(card: Mapping[str, Any]) -> str:
    command, out = KINDS[card["kind"]].tool
    shown = (
        "print(found.boxes, found.scores, found.names)  # (N, 4) x0 y0 x1 y1 in px; (N,); N names"
        if has_boxes(card)
        else "print(found.names[0], found.scores[0])  # likeliest first; found.probabilities: (K,)"
    )
    return f"""## Use

```python
import clclip

model = clclip.load_model("path/to/this/folder")
found = model("photo.jpg")  # a path, PIL image, array or tensor; a list of them gives a list
{shown}
```

```
clclip {command} --model path/to/this/folder photos/ --out {out}
```

Add classes: an experiment file with `start: path/to/this/folder` and the new classes' data."""


def _classes(card: Mapping[str, Any]) -> str:
    scores = card.get("scores") or {}
    rows = scores.get("per_class", {})
    title = scores.get("metric", "score")
    lines = [
        "## Classes",
        "",
        f"| class | task | {title} | test objects |",
        "| --- | --- | --- | --- |",
    ]
    for number, part in enumerate(card["parts"], 1):
        for name in part["classes"]:
            row = rows.get(name) or {}
            value = "-" if row.get("score") is None else f"{row['score']:.1f}"
            lines.append(f"| {name} | {number} | {value} | {row.get('objects', '-')} |")
    hidden = [name for part in card["parts"] for name in part["hidden"]]
    if hidden:
        lines += ["", f"Dropped, and never reported: {', '.join(hidden)}."]
    metrics = scores.get("metrics")
    if metrics:
        parts = {"P": "earlier classes", "C": "those of the last task", "A": "all"}
        values = [f"{parts[k]} {v:.1f}" for k, v in metrics.items() if v is not None and k in parts]
        lines += ["", f"{title} in percent: {', '.join(values)}."]
    return "\n".join(lines)


def _parts(card: Mapping[str, Any]) -> str:
    lines = ["## Training", "", "| task | data | epochs | seed |", "| --- | --- | --- | --- |"]
    for number, part in enumerate(card["parts"], 1):
        epochs = part["training"]["epochs"]
        lines.append(f"| {number} | `{part['data']['id']}` | {epochs} | {card['seed']} |")
    lines += ["", "Options of every task stand in `card.json` and in the task's `task.json`."]
    return "\n".join(lines)


def _pixels(card: Mapping[str, Any]) -> str:
    rows = [f"- {key}: {value}" for key, value in card["preprocessing"].items()]
    return "\n".join(["## Preprocessing", "", *rows, "", "`load_model` does all of it."])


def _limits(card: Mapping[str, Any]) -> str:
    lines = ["## Limits", ""]
    lines.append("- It knows the classes above and no others. Scores come from the data above;")
    lines.append("  on other images they may be worse.")
    if card["memory"] == "left out":
        lines.append("- The method remembers old data, which is not in this folder: it cannot be")
        lines.append("  extended. Export it `--with-memory` for that.")
    if not card["clip"].get("included"):
        clip = card["clip"]
        lines.append(
            f"- The frozen tower `{clip['id']}` (SHA-256 {clip['sha256'][:16]}...) is not in"
        )
        lines.append("  the folder. What ships with clclip or is downloaded by its tag is found;")
        lines.append("  `clclip export --with-tower` adds it.")
    return "\n".join(lines)


def _files(card: Mapping[str, Any]) -> str:
    lines = [
        "## Files",
        "",
        "- `card.json`: all of the above for programs, with the SHA-256 of every file",
    ]
    lines.append(
        "- `taskK/task.json`, `taskK/weights.safetensors`: what task K was told and learned"
    )
    if "text" in card:
        lines.append(f"- `{card['text']['file']}`: text vectors of the classes and of background")
    if card["clip"].get("included"):
        lines.append(f"- `clip/{card['clip']['id']}/`: the frozen CLIP")
    return "\n".join(lines)
