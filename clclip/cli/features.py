"""The command that computes feature stores: dense tokens for detectors, or a vector an image."""

from __future__ import annotations

import argparse

from clclip.core.errors import InputError


def features(options: argparse.Namespace) -> None:
    """Compute a feature store."""
    from clclip.workflow.gpu_slots import devices

    image = options.dense == "image"
    try:
        taps = [int(part) for part in options.taps.split(",") if part or not image]
    except ValueError:
        raise InputError(f"got {options.taps!r}", "--taps", "numbers, e.g. 1,2,3") from None
    if image:
        return _image_features(options, taps)
    if not 16 <= options.size <= 4096:
        raise InputError(f"got {options.size}", "--size", "16 to 4096 px")
    with devices():
        from clclip.clip.features import build_features

        build_features(
            options.data,
            options.clip,
            options.split,
            options.out,
            size=options.size,
            dense=options.dense,
            taps=taps,
            flip=options.flip,
        )


def _image_features(options: argparse.Namespace, taps: list[int]) -> None:
    """Compute a store of features of whole images, as closed-form tasks read it."""
    from clclip.workflow.gpu_slots import devices

    if options.size and not 16 <= options.size <= 4096:
        raise InputError(f"got {options.size}", "--size", "16 to 4096 px, or 0: the tower's own")
    with devices():
        from clclip.classification.features.builder import build_image_features

        given = (options.data, options.clip, options.split, options.out, options.size)
        build_image_features(*given, mirror=options.flip, taps=taps)
