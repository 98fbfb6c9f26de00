"""Frames of a video, every so many of them, through PyAV (the extra ``video``)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from clclip.core.errors import InputError
from clclip.model.use.answers import Detections
from clclip.model.use.pictures import Picture
from clclip.model.use.progress import progress

if TYPE_CHECKING:
    from clclip.model.use.detection import DetectionModel

VIDEO_SUFFIXES = frozenset(".mp4 .mov .avi .mkv .webm .m4v .mpg .mpeg .wmv .flv .ts".split())


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        number: its place in the video, from 0.
        seconds: when it is shown.
        image: upright RGB.
    """

    number: int
    seconds: float
    image: Image.Image


def is_video(path: Path) -> bool:
    """Tell by its suffix whether a file is a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def check_alone(videos: Sequence[Path], files: Sequence[Path], every: int | None) -> None:
    """Refuse videos beside images, and a distance of frames without a video.

    Raises:
        InputError: for either.
    """
    if videos and len(videos) < len(files):
        what = f"a video ({videos[0].name!r}) beside images"
        raise InputError(what, "the images", "images, or videos")
    if every is not None and every < 1:
        raise InputError(f"every {every}", "--every", "a number from 1")
    if every is not None and not videos:
        raise InputError(f"every {every} without a video", "--every", "a video")


def frame_stream(
    model: DetectionModel, videos: Sequence[Path], every: int, batch: int
) -> Iterator[tuple[dict[str, Any], str, Detections, Picture]]:
    """Yield for each frame its entry, the name of its drawing, its detections, and itself.

    Raises:
        InputError: as ``frames``.
    """
    counts = [count_frames(path, every) for path in videos]  # all are videos, before work begins
    stems: dict[str, int] = {}
    for path, count in zip(videos, counts, strict=True):
        stems[path.stem] = stems.get(path.stem, 0) + 1
        stem = path.stem if stems[path.stem] == 1 else f"{path.stem}-{stems[path.stem]}"
        outputs = _detected(model, path, every, batch)
        for frame, whole, picture in progress(outputs, count, path.name):
            entry = {
                "file_name": f"{path}#{frame.number}",
                "video": str(path),
                "frame": frame.number,
                "seconds": round(frame.seconds, 3),
            }
            yield entry, f"{stem}-{frame.number:06d}.png", whole, picture


def _detected(
    model: DetectionModel, path: Path, every: int, batch: int
) -> Iterator[tuple[Frame, Detections, Picture]]:
    """Yield the frames of a video with their detections."""
    shown = frames(path, every)
    while ready := list(itertools.islice(shown, batch)):
        pictures = [Picture(frame.image, None) for frame in ready]
        for n, whole, picture in model.stream(pictures, batch=batch):
            yield ready[n], whole, picture


def count_frames(path: Path, every: int) -> int:
    """Return about how many frames ``frames`` will yield, 0 where the file does not say.

    Raises:
        InputError: as ``frames``.
    """
    with _opened(path) as container:
        stream = container.streams.video[0]
        count = stream.frames
        if not count and container.duration and stream.average_rate:
            count = int(container.duration / 1e6 * float(stream.average_rate))
        return -(-count // every)


def frames(path: Path, every: int = 1) -> Iterator[Frame]:
    """Yield frame 0, ``every``, twice that, and so on.

    Args:
        path: a video file.
        every: distance of two frames, from 1.

    Raises:
        InputError: if PyAV is not installed, or the file is missing, no video, empty or damaged.
    """
    if every < 1:
        raise InputError(f"every {every}", "--every", "a number from 1")
    av = _av()
    number = -1
    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        try:
            for number, frame in enumerate(container.decode(stream)):
                if number % every == 0:
                    seconds = float(frame.time) if frame.time is not None else 0.0
                    yield Frame(number, seconds, _upright(frame))
        except av.error.FFmpegError as error:
            what = f"a video that breaks off after frame {number} ({_reason(error)})"
            raise InputError(what, path, "a whole video") from None
    if number < 0:
        raise InputError("a video without a frame", path, "a video of one frame or more")


def _upright(frame: Any) -> Image.Image:
    """Return a frame as RGB, turned as the video says (phones store it sideways)."""
    image: Image.Image = frame.to_image()
    turn = round(getattr(frame, "rotation", 0) or 0) % 360
    return image.rotate(turn, expand=True) if turn else image


def _opened(path: Path) -> Any:
    """Open a video that has a stream of pictures."""
    av = _av()
    if not path.is_file():
        raise InputError("no such video", path, "a video file")
    expected = "a video (mp4, mov, avi, mkv, webm)"
    if path.stat().st_size == 0:
        raise InputError("an empty video", path, expected)
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"not a video ({_reason(error)})", path, expected) from None
    if not container.streams.video:
        container.close()
        raise InputError("a file without pictures", path, expected)
    return container


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _av() -> Any:
    """Return PyAV."""
    try:
        import av
    except ImportError:
        expected = "`pip install 'clclip[video]'` (PyAV)"
        raise InputError("the package av is missing", "video", expected) from None
    return av
