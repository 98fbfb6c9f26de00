"""Words that were never trained: the frozen CLIP's scores in a model's own boxes.

A trained class has an expert; another word has its text alone. Its score is a softmax over all
words, the model's classes and a few of background, of how the box agrees with each (F-ViT's
temperature), so it is to be trusted less than a trained one, and is marked as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from clclip.clip.ids import text_file
from clclip.clip.load import load_clip
from clclip.clip.text import read_background, read_text, text_embeddings
from clclip.core.errors import InputError
from clclip.core.names import canonical_name, name_fault
from clclip.core.task import clip_dir
from clclip.detection.layers.batch import Batch
from clclip.detection.methods.detector import Detector
from clclip.detection.tools.open_vocabulary import detect_by_text
from clclip.model.place import ModelPlace, tower_home

THRESHOLD = 0.5


class Words:
    """Further names that a detector is asked for.

    Attributes:
        names: the words, in their canonical spelling.
        text: (K, d) unit rows of the words.
        rest: (N, d) unit rows of what competes with them: the trained classes and background.
    """

    def __init__(self, place: ModelPlace, names: Sequence[str], device: torch.device) -> None:
        self.names = list(names)
        with tower_home(place) as home:
            clip = load_clip(clip_dir(place.plan, home))
            self.text = text_embeddings(clip, self.names).to(device)
        texts = text_file(place.plan, place.texts)
        self.rest = torch.cat([read_text(texts)[1], read_background(texts)]).to(device)

    def detect(self, detector: Detector, batch: Batch) -> list[dict[str, Tensor]]:
        """Return the detections of the words, per image; labels are rows of ``text``."""
        return detect_by_text(detector, batch, self.text, self.rest)


def asked_words(given: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Return the words that texts name, separated by commas; each is one that was never trained.

    Raises:
        InputError: if one is blank, cannot be a name, is given twice or is a class of the model.
    """
    words: list[str] = []
    expected = "names that the model was not taught, separated by commas"
    for part in (part for text in given for part in text.split(",")):
        name = canonical_name(part)
        if problem := name_fault(part):
            raise InputError(f"a name {part!r} {problem}", "--also", expected)
        if name in classes:
            raise InputError(f"{name!r}, a class of the model", "--also", expected)
        if name in words:
            raise InputError(f"{name!r} twice", "--also", expected)
        words.append(name)
    return words


def joined(
    detections: Sequence[Mapping[str, Tensor]], words: Sequence[Mapping[str, Tensor]], first: int
) -> list[dict[str, Tensor]]:
    """Return the detections of images with those of words behind them, labels from ``first`` on."""
    result = []
    for own, more in zip(detections, words, strict=True):
        more = {**more, "labels": more["labels"] + first}
        result.append({name: torch.cat([own[name], more[name]]) for name in own})
    return result
