"""The shared path: pyramid, proposals, region features and box regression of all classes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign

from clclip.detection.layers.proposals import region_proposals
from clclip.detection.layers.pyramid import Pyramid, group_norm
from clclip.detection.layers.text_score import TextClassifier, TextScore
from clclip.detection.options import DetectorOptions
from clclip.training.checkpointing import recomputed
from clclip.training.shares import Losses

REGION = 7  # bins a side of a region's features


class LevelByArea:
    """F-ViT's rule: level floor(log2(sqrt(area) / (14 * finest stride))), clamped.

    Args:
        finest: stride of the finest level in canvas pixels.
        levels: number of levels.
    """

    def __init__(self, finest: float, levels: int) -> None:
        self.finest, self.levels = finest, levels

    def __call__(self, boxes: list[Tensor]) -> Tensor:
        """Return the level (int64) of every box of the concatenated lists of (N, 4) xyxy."""
        box = torch.cat(boxes)
        side = ((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])).clamp(min=1e-6).sqrt()
        level = torch.floor(torch.log2(side / (14 * self.finest)) + 1e-6)
        return level.clamp(0, self.levels - 1).long()


def region_pooler(strides: Sequence[float]) -> MultiScaleRoIAlign:
    """Return torchvision's multi-scale RoIAlign with exact strides, 7x7 bins.

    torchvision infers scales rounded to powers of two, which is wrong for patches of 14 px.
    """
    pooler = MultiScaleRoIAlign([str(i) for i in range(len(strides))], REGION, sampling_ratio=0)
    pooler.scales = [1.0 / stride for stride in strides]
    pooler.map_levels = LevelByArea(strides[0], len(strides))
    return pooler


class SharedPath(nn.Module):
    """Everything between the frozen tower and the class-specific part.

    Args:
        width: channels of the tower's taps.
        stride: pixels per token of the tower.
        options: sizes and sampling numbers.
        text_width: dimension of the text embeddings, for a text score; 0: none.
    """

    def __init__(
        self, width: int, stride: float, options: DetectorOptions, text_width: int = 0
    ) -> None:
        super().__init__()
        channels = options.channels
        strides = [stride / scale for scale in options.scales]
        self.pyramid = Pyramid(width, options.scales, channels, options.extra_level)
        extra = [2 * strides[-1]] if options.extra_level else []
        self.rpn = region_proposals(
            channels,
            strides + extra,
            options.anchor_size,
            batch=options.rpn_batch,
            kept_train=options.proposals_train,
            kept_test=options.proposals_test,
        )
        self.pooler = region_pooler(strides)
        layers: list[nn.Module] = []
        for _ in range(options.roi_convs):
            conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            layers += [conv, group_norm(channels), nn.ReLU(inplace=True)]
        self.convs = nn.Sequential(*layers)
        self.fc = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * REGION * REGION, options.fc_width),
            nn.ReLU(inplace=True),
        )
        self.box = nn.Linear(options.fc_width, 4)
        nn.init.normal_(self.box.weight, std=0.001)
        nn.init.zeros_(self.box.bias)
        self.text = None
        if text_width:
            classifier = TextClassifier(options.fc_width, text_width, options.temperature)
            self.text = TextScore(classifier)

    def levels(
        self, taps: Sequence[Tensor], base: OrderedDict[str, Tensor] | None = None
    ) -> OrderedDict[str, Tensor]:
        """Return the pyramid levels; ``base`` is for paths that build on another one."""
        return recomputed(self.pyramid, taps)

    def start_from(self, path: SharedPath) -> None:
        """Copy the weights of the first task's path."""
        self.load_state_dict(path.state_dict())

    def propose(
        self,
        levels: OrderedDict[str, Tensor],
        canvas: ImageList,
        targets: list[dict[str, Tensor]] | None = None,
        generators: Sequence[torch.Generator] = (),
    ) -> tuple[list[Tensor], Losses]:
        """Return proposals (N_i, 4) xyxy per image and, given targets, the RPN losses."""
        self.rpn.train(targets is not None)
        self.rpn.fg_bg_sampler.generators = generators
        proposals, found = self.rpn(canvas, levels, targets)
        names = {"loss_objectness": "rpn_objectness", "loss_rpn_box_reg": "rpn_box"}
        losses = Losses(len(proposals))
        for name, value in found.items():
            losses.add(names[name], value, self.rpn.fg_bg_sampler.drawn)
        return proposals, losses

    def regions(
        self, levels: OrderedDict[str, Tensor], boxes: list[Tensor], canvas: ImageList
    ) -> Tensor:
        """Return region features (R, channels, 7, 7) of the boxes of all images, in order."""
        return recomputed(self.convs, self.pooler(levels, boxes, canvas.image_sizes))

    def vectors(self, regions: Tensor) -> Tensor:
        """Return the fully connected features (R, fc_width) of region features."""
        return self.fc(regions)
