"""What SECA costs beside H-PEFT and beside a plain forward: `python benchmarks/seca_cost.py`.

Three ratios on one random-weight tower: inference with 20 prompts x 200 classes to a plain forward
of the same images (bound 1.1); a training step with a full pool to one of H-PEFT on the same batch
(bound 2.2); and that step with its share of what a task computes once before training (plain
features, stem, teachers' vectors), spread over ``--epochs`` epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import measure
import open_clip
import torch
from torch.nn import functional as F

from clclip.classification.classifier import Classifier
from clclip.classification.records import Memory, Record
from clclip.classification.registry import method_options
from clclip.classification.seca.learner import Learner

POOL, PROMPTS, CLASSES = 5, 20, 200


class Noise:
    """Training images of noise, with the interface of ``Pixels``."""

    def __init__(self, count: int, side: int) -> None:
        self.images = torch.randn(count, 3, side, side)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: torch.Tensor | Iterable[int]) -> torch.Tensor:
        return self.images[rows if isinstance(rows, torch.Tensor) else list(rows)]


class Stepper:
    """The last of six tasks of ten classes each, after five that left a full pool."""

    def __init__(self, model: torch.nn.Module, name: str, method: str, batch: int) -> None:
        tokenizer = open_clip.get_tokenizer(name)
        names = [f"class number {k}" for k in range(10 * (POOL + 1))]
        records: list[Record] = []
        for task in range(POOL + 1):
            seen, switches = names[: 10 * (task + 1)], method_options(method, {})
            memory = Memory(records)
            learner = Learner(model, tokenizer, seen, 10 * task, switches, memory, seed=0)
            if task < POOL:
                learner.begin_task(Noise(10, learner.tower.image_size), torch.arange(10))
                records.append({k: v.detach().clone() for k, v in learner.record().items()})
        self.learner, self.batch = learner, torch.arange(batch)
        self.images, self.labels = Noise(batch, learner.tower.image_size), self.batch % 10
        self.begin()
        trained = [p for p in learner.trained.values() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained)

    def begin(self) -> None:
        """Compute what the task keeps constant, for one batch of images."""
        self.learner.begin_task(self.images, self.labels)

    def step(self) -> None:
        """Make one optimizer step."""
        self.optimizer.zero_grad(set_to_none=True)
        sum(self.learner.losses(self.batch, 0).values()).backward()
        self.optimizer.step()


def classifier_of(learner: Learner) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the answers of a classifier of 20 prompts x 200 classes with the learner's tower."""
    text = F.normalize(torch.randn(PROMPTS, CLASSES, learner.tower.embed_dim), dim=-1)
    names = [str(k) for k in range(CLASSES)]
    return Classifier(learner.visual, None, names, text, text[0]).predict_probabilities


def main() -> None:
    """Measure, print and write the ratios."""
    chosen = measure.options(
        __doc__,
        model={"default": "ViT-B-32", "help": "open_clip architecture"},
        batch={"type": int, "default": 32, "help": "images of a batch"},
        epochs={"type": int, "default": 10, "help": "epochs that share what a task computes once"},
    )
    batch = 2 if chosen.quick else chosen.batch
    torch.manual_seed(0)
    model = open_clip.create_model(chosen.model, pretrained=None).eval().requires_grad_(False)
    hpeft, seca = (Stepper(model, chosen.model, method, batch) for method in ("hpeft", "seca"))
    contestants = {"hpeft step": hpeft.step, "seca step": seca.step}
    contestants |= {"hpeft begin": hpeft.begin, "seca begin": seca.begin}
    images, classify = seca.images.images, classifier_of(seca.learner)
    contestants |= {
        "plain forward": torch.no_grad()(lambda: model.encode_image(images)),
        "inference": lambda: classify(images),
    }
    seconds = measure.timed(contestants, chosen.rounds)
    for method in ("hpeft", "seca"):  # one step and its share of what the task computes once
        both = zip(seconds[f"{method} step"], seconds[f"{method} begin"], strict=True)
        seconds[f"{method} step with share"] = [a + b / chosen.epochs for a, b in both]
    rate = measure.gflops_of_machine()
    floors = {name: measure.floor_ms(run, rate) / 1e3 for name, run in contestants.items()}
    against = {name: "hpeft" + name.removeprefix("seca") for name in seconds if "seca" in name}
    against["inference"] = "plain forward"
    rows = [
        {
            "what": name,
            "seconds": measure.median(own),
            "floor s": floors.get(name),
            "x": measure.ratio(own, seconds[against[name]]) if name in against else None,
            "against": against.get(name),
        }
        for name, own in seconds.items()
    ]
    more = {"model": chosen.model, "batch": batch, "epochs": chosen.epochs}
    measure.write("seca_cost", chosen, rows, **more)


if __name__ == "__main__":
    main()
