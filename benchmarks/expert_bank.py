"""Expert bank against plain class loops: python benchmarks/expert_bank.py [--quick].

K = 80 experts on 64 regions of 64 channels, from region features and gates to scores. ``plain
loop``: class after class on all regions. ``exact``: what `route: all` runs, per dispatch.
``routed``: the pairs of 5 classes a region, per dispatch; ``plain routed``: a plain loop over the
same pairs. The chosen dispatch of this device is marked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import measure
import torch
from torch import Tensor
from torch.nn import functional

from clclip.detection.methods.clclip.dispatch import DISPATCHES, dispatch_on
from clclip.detection.methods.clclip.experts import ExpertBank
from clclip.detection.methods.clclip.inference import PAIR_CHUNK, PAIR_CHUNK_ELSEWHERE
from clclip.detection.methods.clclip.pairs import routed_pairs

FLOOR = 0.5  # eps of the gate


def expert(bank: ExpertBank, k: int, x: Tensor) -> Tensor:
    """Return the scores of one expert, by plain convolutions."""
    for conv, bias in zip(bank.convs, bank.conv_bias, strict=True):
        x = functional.relu(functional.conv2d(x, conv[k], bias[k], padding=1))
    return x.flatten(1) @ bank.score[k]


class Case:
    """Regions, gates and priors on a device, and the ways to score them."""

    def __init__(self, classes: int, regions: int, channels: int, device: torch.device) -> None:
        torch.manual_seed(0)
        names = [f"class {k}" for k in range(classes)]
        self.bank = ExpertBank(names, channels, 32, 2).requires_grad_(False).to(device)
        self.regions = torch.randn(regions, channels, 7, 7, device=device)
        self.gates = torch.rand(regions, classes, 7, 7, device=device)
        self.prior = torch.rand(regions, classes, device=device)
        most = self.prior.topk(min(5, classes), dim=1).values[:, -1:]
        self.routed_prior = self.prior - most + 1e-6  # 5 classes a region pass the threshold 0
        self.threshold = torch.zeros(classes, device=device)
        self.chunk = PAIR_CHUNK.get(device.type, PAIR_CHUNK_ELSEWHERE)

    def plain(self) -> Tensor:
        """Return all scores, class after class."""
        scores = [
            expert(self.bank, k, self.regions * (FLOOR + self.gates[:, k : k + 1]))
            for k in range(self.gates.shape[1])
        ]
        return torch.stack(scores)

    def plain_routed(self) -> Tensor:
        """Return the scores of the routed pairs, class after class."""
        scores = []
        for k in range(self.gates.shape[1]):
            rows = torch.where(self.routed_prior[:, k] > self.threshold[k])[0]
            if len(rows):
                x = self.regions[rows] * (FLOOR + self.gates[rows, k, None])
                scores.append(expert(self.bank, k, x))
        return torch.cat(scores)

    def dispatched(self, route: str, name: str) -> Tensor:
        """Return the scores as the detector computes them."""
        prior = self.prior if route == "all" else self.routed_prior
        region, column = routed_pairs(prior, self.threshold, route)
        scores = []
        for r, c in zip(region.split(self.chunk), column.split(self.chunk), strict=True):
            gate = self.gates[r, c].unsqueeze(1)
            x = self.regions.index_select(0, r).mul_(FLOOR + gate)
            scores.append(DISPATCHES[name](self.bank.stacked(), x, c).scores)
        return torch.cat(scores)


def main() -> None:
    """Measure and write expert_bank.json."""
    chosen = measure.options(__doc__)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    case = Case(8, 8, 16, device) if chosen.quick else Case(80, 64, 64, device)
    runs: dict[str, Callable[[], Tensor]] = {"plain loop": case.plain}
    runs["plain routed"] = case.plain_routed
    for name in DISPATCHES:
        for route, label in (("all", "exact"), ("prior", "routed")):
            runs[f"{label} {name}"] = partial(case.dispatched, route, name)
    torch.testing.assert_close(runs["exact loop"]().view(len(case.threshold), -1), case.plain())
    seconds = measure.timed(runs, chosen.rounds, warm=2)
    rate = measure.gflops_of_machine()
    best = next(n for n, run in DISPATCHES.items() if run is dispatch_on(device))
    rows = []
    for name, run in runs.items():
        work = measure.gflop(run)
        rows.append(
            {
                "run": name,
                "ms": 1e3 * measure.median(seconds[name]),
                "x plain loop": measure.ratio(seconds[name], seconds["plain loop"]),
                "x plain routed": measure.ratio(seconds[name], seconds["plain routed"]),
                "peak MiB": measure.peak_mib(run),
                "GFLOP": work,
                "floor ms": 1e3 * work / rate,
                "chosen": "yes" if name in (f"exact {best}", f"routed {best}") else "",
            }
        )
    measure.write("expert_bank", chosen, rows, device=str(device), gflops_of_machine=rate)


if __name__ == "__main__":
    main()
