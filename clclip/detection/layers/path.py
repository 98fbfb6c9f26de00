"""The shared path: pyramid, proposals, region features and box regression of all classes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from clclip.detection.layers.proposals import region_proposals
from clclip.detection.layers.pyramid import Conv2d, Pyramid, group_norm, laid_out
from clclip.detection.layers.region_align import region_align
from clclip.detection.layers.text_score import TextClassifier, TextScore
from clclip.detection.options.detector import DetectorOptions
from clclip.training.checkpointing import checkpointed
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


class RegionPooler(nn.Module):
    """RoIAlign over the levels of a pyramid, 7 x 7 bins, each region from the level of its size.

    ``aligned``: a cell's value stands at the cell's centre, as for gates, costs and dense tokens.
    torchvision's MultiScaleRoIAlign reads half a cell farther to the lower right, and rounds
    scales to powers of two, which is wrong for patches of 14 px.

    Args:
        strides: canvas pixels per cell of each level, the finest first.
    """

    def __init__(self, strides: Sequence[float]) -> None:
        super().__init__()
        self.scales = [1.0 / stride for stride in strides]
        self.map_levels = LevelByArea(strides[0], len(strides))

    def forward(self, levels: Mapping[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """Return features (R, channels, 7, 7) of the boxes of all images, in order.

        Args:
            levels: (B, channels, h, w) each; levels beyond the strides are not used.
            boxes: per image (R_i, 4) xyxy in canvas pixels.
        """
        maps = list(levels.values())[: len(self.scales)]
        owner = [torch.full_like(own[:, :1], n) for n, own in enumerate(boxes)]
        regions = torch.cat([torch.cat(owner), torch.cat(boxes)], dim=1)
        chosen = self.map_levels(boxes)
        pooled = laid_out(maps[0].new_zeros(len(regions), maps[0].shape[1], REGION, REGION))
        for level, (features, scale) in enumerate(zip(maps, self.scales, strict=True)):
            own = torch.where(chosen == level)[0]
            if features.device.type == "cpu" and not len(own):
                continue  # elsewhere the question would wait for the device
            aligned = region_align(features, regions[own], REGION, scale)
            pooled[own] = aligned.to(pooled.dtype)  # autocast may choose another for each level
        return pooled


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
            post_nms_train=options.proposals_train,
            post_nms_test=options.proposals_test,
        )
        self.pooler = RegionPooler(strides)
        layers: list[nn.Module] = []
        for _ in range(options.roi_convs):
            conv = Conv2d(channels, channels, 3, padding=1, bias=False)
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
        return checkpointed(self.pyramid, taps)

    def fold(self) -> None:
        """Fold what is linear, for detection: weights must not change any more."""
        self.pyramid.fold()

    def start_from(self, path: SharedPath) -> None:
        """Copy the weights of an earlier task's path."""
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
        proposals, rpn_losses = self.rpn(canvas, levels, targets)
        names = {"loss_objectness": "rpn_objectness", "loss_rpn_box_reg": "rpn_box"}
        losses = Losses(len(proposals))
        for name, value in rpn_losses.items():
            losses.add(names[name], value, self.rpn.fg_bg_sampler.drawn)
        return proposals, losses

    def regions(self, levels: Mapping[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """Return region features (R, channels, 7, 7) of the boxes of all images, in order."""
        return checkpointed(self.convs, self.pooler(levels, boxes))

    def vectors(self, regions: Tensor) -> Tensor:
        """Return the fully connected features (R, fc_width) of region features."""
        return self.fc(regions)
