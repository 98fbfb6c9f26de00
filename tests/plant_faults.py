"""Plant faults one by one: each must make a test fail.

    uv run python tests/plant_faults.py            # all of them, some minutes
    uv run python tests/plant_faults.py gate-sign  # one

Works on a copy of the checkout. Exit status 1 if a fault survives, or if a test fails without one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Fault:
    """One edit: ``old`` becomes ``new`` in ``file``; ``tests`` must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str


FAULTS = (
    Fault(
        "expert-prior-sign",
        "clclip/detection/methods/clclip/experts.py",
        "+ self.beta[columns] * prior",
        "- self.beta[columns] * prior",
        "detection/test_experts",
    ),
    Fault(
        "expert-seeded-by-place",
        "clclip/detection/methods/clclip/experts.py",
        'generator(seed, "expert", name)',
        'generator(seed, "expert", k)',
        "detection/test_experts",
    ),
    Fault(
        "gate-sign",
        "clclip/clip/cost_volume.py",
        "return slope * (cost - middle)",
        "return slope * (middle - cost)",
        "detection/test_experts",
    ),
    Fault(
        "unfrozen-experts",
        "clclip/detection/methods/clclip/detector.py",
        "        self.requires_grad_(False)\n        self.banks",
        "        self.banks",
        "detection/test_clclip",
    ),
    Fault(
        "classes-compete-for-routing",
        "clclip/detection/methods/clclip/pairs.py",
        "chosen = value > threshold",
        "chosen = value > value.mean(1, keepdim=True)",
        "detection/test_experts",
    ),
    Fault(
        "text-score-against-classes-of-its-task",
        "clclip/detection/layers/text_score.py",
        "torch.cat([logits[:, :previous], logits[:, -1:]], dim=1).logsumexp(1, keepdim=True)",
        "logits.logsumexp(1, keepdim=True)",
        "detection/test_text_score",
    ),
    Fault(
        "experts-teach-the-text-classifier",
        "clclip/detection/layers/text_score.py",
        "(logits[:, previous:-1] - rest).detach()",
        "(logits[:, previous:-1] - rest)",
        "detection/test_text_score",
    ),
    Fault(
        "text-weight-of-detection-in-training",
        "clclip/detection/methods/clclip/detector.py",
        "text.gamma.fill_(TRAINING_WEIGHT)",
        "pass",
        "detection/test_text_score",
    ),
    Fault(
        "text-labels-of-old-classes",
        "clclip/detection/methods/clclip/detector.py",
        "BACKGROUND, sampled.labels + previous)",
        "BACKGROUND, sampled.labels)",
        "detection/test_text_score",
    ),
    Fault(
        "epochs-that-stop-short",
        "clclip/training/epochs.py",
        'math.ceil(training["min_steps"] / steps_per_epoch)',
        'training["min_steps"] // steps_per_epoch',
        "detection/test_data",
    ),
    Fault(
        "drift-against-itself",
        "clclip/detection/methods/clclip/losses.py",
        "before = reference.levels(taps)",
        "before = path.levels(taps)",
        "detection/test_clclip",
    ),
    Fault(
        "orthogonality-keeps-the-mean",
        "clclip/detection/layers/region_maps.py",
        "v = v - v.mean(1, keepdim=True)",
        "v = v - 0",
        "detection/test_experts",
    ),
    Fault(
        "missing-detach",
        "clclip/detection/methods/clclip/losses.py",
        "other.append(admitted[rest].detach())",
        "other.append(admitted[rest])",
        "detection/test_experts",
    ),
    Fault(
        "off-by-one-class-map",
        "clclip/detection/stages/train.py",
        '"category_id": ids[label],',
        '"category_id": ids[label - 1],',
        "detection/test_data",
    ),
    Fault(
        "boxes-scaled-the-wrong-way",
        "clclip/detection/inputs/views.py",
        "clip_boxes_to_image(boxes / scale,",
        "clip_boxes_to_image(boxes * scale,",
        "detection/test_data",
    ),
    Fault(
        "old-columns-forgotten",
        "clclip/detection/methods/two_stage.py",
        '"labels": t["labels"] + self.previous}',
        '"labels": t["labels"]}',
        "detection/test_clclip",
    ),
    Fault(
        "flip-keeps-x-order",
        "clclip/detection/inputs/views.py",
        "self.width - moved[:, 2], moved[:, 1], self.width - moved[:, 0]",
        "self.width - moved[:, 0], moved[:, 1], self.width - moved[:, 2]",
        "detection/test_data",
    ),
    Fault(
        "draws-depend-on-the-batch",
        "clclip/detection/inputs/dataset.py",
        '"image", epoch, image.image_id) for image in images]',
        '"image", epoch, n) for n, image in enumerate(images)]',
        "detection/test_data",
    ),
    Fault(
        "optimizer-not-resumed",
        "clclip/training/resume.py",
        "        if state:\n",
        "        if False:\n",
        "training/test_fit",
    ),
    Fault(
        "resume-of-another-run",
        "clclip/training/resume.py",
        'metadata.get("digest") != digest or',
        "False or",
        "training/test_fit",
    ),
    Fault(
        "no-warm-up",
        "clclip/training/fit.py",
        "if step < settings.warmup_steps:",
        "if step < 0:",
        "training/test_fit",
    ),
    Fault(
        "precision-without-envelope",
        "clclip/evaluation/ap.py",
        "np.maximum.accumulate(precision[::-1])[::-1]",
        "precision",
        "evaluation/test_ap",
    ),
    Fault(
        "forgetting-includes-the-last-task",
        "clclip/evaluation/continual.py",
        "for scores in after[:-1] if (score :=",
        "for scores in after if (score :=",
        "evaluation/test_continual",
    ),
    Fault(
        "crowds-count-as-misses",
        "clclip/evaluation/matching.py",
        'bool(a.get("ignore") or a.get("iscrowd"))',
        'bool(a.get("ignore"))',
        "evaluation/test_ap",
    ),
    Fault(
        "future-labels-leak",
        "clclip/data/split.py",
        'if box["image_id"] in ids and box["category_id"] in now and not',
        'if box["image_id"] in kept and not',
        "data/test_split",
    ),
    Fault(
        "exif-votes-for-the-other-view",
        "clclip/data/checks/exif.py",
        "views.add(turned)",
        "views.add(stored)",
        "data/test_exif",
    ),
    Fault(
        "names-decomposed",
        "clclip/core/names.py",
        'return " ".join(unicodedata.normalize("NFC", name).split())',
        'return " ".join(unicodedata.normalize("NFD", name).split())',
        "data/test_names",
    ),
    Fault(
        "fractions-unseen",
        "clclip/data/checks/scale.py",
        "if all(-_OVER <= value <= 1 + _OVER for",
        "if all(-_OVER <= value < 1 for",
        "data/test_scale",
    ),
    Fault(
        "untrusted-links-followed",
        "clclip/data/readers/links.py",
        "if home is not None and not Path",
        "if home is None and not Path",
        "data/test_links",
    ),
    Fault(
        "unused-category-takes-the-name",
        "clclip/data/readers/categories.py",
        "for strict in (True, False):",
        "for strict in (False, True):",
        "data/test_unused",
    ),
    Fault(
        "junk-read-as-images",
        "clclip/data/readers/class_folders.py",
        'return name.startswith(".") or name in _JUNK',
        'return name.startswith(".")',
        "data/test_fields",
    ),
    Fault(
        "cost-volume-sign",
        "clclip/clip/cost_volume.py",
        "return cost.clamp(-1.0, 1.0)",
        "return -cost.clamp(-1.0, 1.0)",
        "clip/test_text",
    ),
    Fault(
        "flipped-features-not-read",
        "clclip/clip/features.py",
        'self._arrays[f"{name}_flip" if flip else name][row]',
        "self._arrays[name][row]",
        "clip/test_features",
    ),
    Fault(
        "json-keys-unsorted",
        "clclip/core/digest.py",
        "json.dumps(value, sort_keys=True,",
        "json.dumps(value,",
        "workflow/test_plan",
    ),
    Fault(
        "slice-holds-later-tasks",
        "clclip/workflow/plan.py",
        "groups if at_once else groups[:number]",
        "groups",
        "workflow/test_plan",
    ),
    Fault(
        "distillation-the-other-way-round",
        "clclip/classification/seca/sgakt.py",
        "F.kl_div(student_log, target,",
        "F.kl_div(target, student_log,",
        "classification/test_seca_parts",
    ),
    Fault(
        "region-features-half-a-cell-off",
        "clclip/detection/layers/region_align.py",
        "\n            return roi_align(maps, regions, bins, scale, aligned=True)",
        "\n            return roi_align(maps, regions, bins, scale, aligned=False)",
        "detection/test_pooling",
    ),
    Fault(
        "bias-of-a-folded-lateral-lost",
        "clclip/detection/layers/pyramid.py",
        "mix @ double.bias",
        "0 * mix @ double.bias",
        "detection/test_pyramid",
    ),
    Fault(
        "moments-laid-out-otherwise-after-a-resume",
        "clclip/training/resume.py",
        "torch.empty_like(parameter).copy_(value).detach()",
        "value",
        "training/test_fit",
    ),
    Fault(
        "folded-bias-once-of-four",
        "clclip/detection/layers/pyramid.py",
        "x.bias.repeat(4)",
        "x.bias.repeat(4) * (torch.arange(4 * len(x.bias)) < len(x.bias))",
        "detection/test_pyramid",
    ),
    Fault(
        "anchors-in-bf16",
        "clclip/detection/layers/proposals.py",
        "torch.promote_types(first.dtype, torch.float32)",
        "first.dtype",
        "detection/test_proposals",
    ),
    Fault(
        "deltas-of-background-alone",
        "clclip/detection/layers/proposals.py",
        "torch.where(torch.cat(labels) >= 1)[0]",
        "torch.where(torch.cat(labels) < 1)[0]",
        "detection/test_proposals",
    ),
    Fault(
        "denormals-kept",
        "clclip/training/fit.py",
        "torch.set_flush_denormal(True)",
        "torch.set_flush_denormal(False)",
        "training/test_fit",
    ),
    Fault(
        "scores-of-experts-in-bf16",
        "clclip/detection/methods/clclip/dispatch.py",
        "activations.to(weights.dtype) @ weights",
        "(activations @ weights.to(activations.dtype)).to(weights.dtype)",
        "detection/test_experts",
    ),
    Fault(
        "interval-around-a-biased-score",
        "clclip/evaluation/interval.py",
        "_ends(gap - bias,",
        "_ends(gap,",
        "evaluation/test_interval",
    ),
    Fault(
        "affinity-normalised-along-columns",
        "clclip/classification/seca/sevpr.py",
        "(-self.gamma * squared).softmax(dim=-1)",
        "(-self.gamma * squared).softmax(dim=-1).T",
        "classification/test_seca_parts",
    ),
    Fault(
        "old-images-are-no-negatives",
        "clclip/classification/vis/solving.py",
        "2 * sums.cross - total[:, None]",
        "2 * sums.cross",
        "classification/test_vis",
    ),
    Fault(
        "mixer-anchor-halved",
        "clclip/classification/vis/mixer.py",
        "+ 2 * anchor * away / count",
        "+ anchor * away / count",
        "classification/test_vis",
    ),
    Fault(
        "smallest-change-merged",
        "clclip/classification/seca/merging.py",
        "changes.abs().argmax(",
        "changes.abs().argmin(",
        "classification/test_magmax",
    ),
    Fault(
        "older-features-stay",
        "clclip/classification/seca/statistics.py",
        "rows = [drift(older) for older in rows]",
        "rows = list(rows)",
        "classification/test_seca_statistics",
    ),
    Fault(
        "settled-adapters-train",
        "clclip/classification/seca/parts/visual.py",
        "self.adapters.requires_grad_(False)\n            else:",
        "pass\n            if True:",
        "classification/test_seca_statistics",
    ),
    Fault(
        "own-texts-forgotten",
        "clclip/classification/features/layout.py",
        "if said(text) != said(name)",
        "if False",
        "classification/test_zeroshot",
    ),
    Fault(
        "adapters-on-another-line",
        "clclip/detection/methods/clclip/pathways.py",
        "[place - 1 for place in inputs.origins] or [0] * len(self.groups)",
        "[0] * len(self.groups)",
        "detection/test_clclip",
    ),
    Fault(
        "nothing-compared-passes",
        "clclip/model/verify.py",
        "return self.compared and unchanged",
        "return unchanged",
        "model/test_verify",
    ),
)


def copy_checkout(folder: Path) -> None:
    """Copy the tracked and untracked files that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)


def tests_fail(folder: Path, tests: str) -> bool:
    """Return whether the tests of one file fail in the copy."""
    command = [sys.executable, "-m", "pytest", "-x", "-n", "0", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, f"tests/unit/{tests}.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest broke on {tests}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 1


def main(names: list[str]) -> int:
    """Plant the named faults, or all; return the exit status."""
    chosen = [fault for fault in FAULTS if not names or fault.name in names]
    if not chosen:
        print(f"no such fault; one of: {', '.join(fault.name for fault in FAULTS)}")
        return 2
    survivors = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_checkout(folder)
        for tests in sorted({fault.tests for fault in chosen}):
            if tests_fail(folder, tests):
                print(f"{tests} fails without a fault")
                return 1
        for fault in chosen:
            path = folder / fault.file
            source = path.read_text(encoding="utf-8")
            if source.count(fault.old) != 1:
                raise RuntimeError(f"{fault.name}: {fault.old!r} must stand once in {fault.file}")
            path.write_text(source.replace(fault.old, fault.new), encoding="utf-8")
            found = tests_fail(folder, fault.tests)
            path.write_text(source, encoding="utf-8")
            print(f"{'found   ' if found else 'SURVIVED'} {fault.name} ({fault.tests})", flush=True)
            survivors += [] if found else [fault.name]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} faults found")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
