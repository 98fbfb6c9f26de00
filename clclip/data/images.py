"""Reading one image: any common file, always upright 8-bit RGB, or one clear error.

PIL only; importing this module does not import torch.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from clclip.core.errors import InputError

# PIL's own limit. One image of this size takes 268 MB as RGB; a larger one is a "decompression
# bomb".
MAX_PIXELS = 89_478_485

# Only raster formats: PIL would otherwise hand PostScript to an external program.
_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .png .bmp .gif .tif .tiff .webp .ppm .pgm .pbm .jp2 .avif".split()
)

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class ImageFacts:
    """What the full decode of one file showed.

    ``width`` and ``height`` are those of the stored pixels; ``orientation`` is the EXIF tag (1 =
    upright).
    """

    width: int
    height: int
    orientation: int
    animated: bool

    def size(self, exif: bool) -> tuple[int, int]:
        """Return (width, height) as ``load_rgb(path, exif)`` gives them."""
        swapped = exif and self.orientation >= 5
        return (self.height, self.width) if swapped else (self.width, self.height)


def load_rgb(path: Path, exif: bool = True) -> Image.Image:
    """Return the image at ``path`` as 8-bit RGB; of an animation, the first frame.

    Transparent pixels are laid over white; 16-bit values are divided by 257.

    Args:
        path: the file.
        exif: turn the image as its EXIF orientation says.

    Raises:
        InputError: if the file is missing, not an image, truncated, or larger than ``MAX_PIXELS``.
    """
    with _opened(path) as image:
        rgb, orientation = _stored(image)
        return rgb.transpose(_UPRIGHT[orientation]) if exif and orientation != 1 else rgb


def inspect(path: Path) -> ImageFacts:
    """Decode the whole image and return its facts.

    Raises:
        InputError: as ``load_rgb``.
    """
    with _opened(path) as image:
        # An MPO file is one photo with a preview or a second view, not an animation.
        animated = getattr(image, "n_frames", 1) > 1 and image.format != "MPO"
        rgb, orientation = _stored(image)
        return ImageFacts(*rgb.size, orientation, animated)


def header(path: Path) -> ImageFacts:
    """Return the facts that the first bytes of an image tell, its pixels not decoded.

    Raises:
        InputError: if the file is missing, too large or plainly not an image.
    """
    with _opened(path) as image:
        # of a PNG, PIL would decode all pixels to look for EXIF behind them
        bare = image.format == "PNG" and not {"exif", "XML:com.adobe.xmp"} & image.info.keys()
        orientation = 1 if bare else _orientation(image)
        # of a TIFF, PIL gives the size that the image has once it is loaded, and turned
        turned = image.format == "TIFF" and orientation >= 5
        width, height = image.size[::-1] if turned else image.size
        return ImageFacts(width, height, orientation, False)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image, check its size first, and turn every decoder's error into InputError."""
    expected = "a complete JPEG, PNG, WebP, TIFF, BMP or GIF file"
    try:
        # A pipe or device would block for ever.
        if not path.is_file():
            problem = "is not a file" if path.exists() else "no such image"
            raise InputError(f"{problem} ({path.name!r})", path, expected)
        with Image.open(path, formats=_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                what = f"image too large ({image.width} x {image.height} pixels)"
                raise InputError(what, path, f"at most {MAX_PIXELS} pixels (shrink it)")
            yield image
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        expected = f"at most {MAX_PIXELS} pixels (shrink it)"
        raise InputError(f"image too large ({error})", path, expected) from None
    except Exception as error:
        # Decoders raise anything on damaged bytes (SyntaxError, struct.error, KeyError, zlib.error
        # ...).
        reason = str(error).replace(str(path), path.name) or type(error).__name__
        raise InputError(f"broken image ({reason})", path, expected) from None


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return the accepted formats that this build of PIL can read."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; damaged EXIF counts as upright."""
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block does not damage the pixels
        return 1
    return value if value in _UPRIGHT else 1


def _stored(image: Image.Image) -> tuple[Image.Image, int]:
    """Return the stored pixels as RGB, and the EXIF orientation."""
    orientation = _orientation(image)
    rgb = _to_rgb(image)
    if orientation != 1 and _orientation(image) == 1:  # PIL turns a TIFF while it loads it
        back = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
        rgb = rgb.transpose(back.get(orientation, _UPRIGHT[orientation]))
    return rgb, orientation


def _to_rgb(image: Image.Image) -> Image.Image:
    """Decode and convert to 8-bit RGB."""
    image.load()
    if image.mode.startswith("I"):  # 16-bit grey in any byte order; PIL's own convert would clip
        grey = np.clip(np.asarray(image), 0, 65535) / 257
        return Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")
    if image.mode == "F":  # floats: 0..1 where nothing is larger, else 0..255
        grey = np.nan_to_num(np.asarray(image, dtype=np.float64))
        grey = grey * 255 if grey.size and grey.max() <= 1 else grey
        return Image.fromarray(np.clip(grey, 0, 255).round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
