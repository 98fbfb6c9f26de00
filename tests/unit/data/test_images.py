"""Reading one image: every common file becomes upright 8-bit RGB, or one clear error."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from clclip.core.errors import InputError
from clclip.data.images import MAX_PIXELS, inspect, load_rgb
from tests.helpers.data import save_image


def first_pixel(path, **options):
    return load_rgb(path, **options).getpixel((0, 0))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_matches_pillow_and_can_be_left_alone(tmp_path, orientation):
    pixels = np.random.default_rng(orientation).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "x.png"
    Image.fromarray(pixels).save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(np.asarray(load_rgb(path)), expected)
    assert np.array_equal(np.asarray(load_rgb(path, exif=False)), pixels)
    facts = inspect(path)
    assert facts.size(True) == load_rgb(path).size
    assert facts.size(False) == (6, 4)


def test_sixteen_bit_grey_is_scaled_not_cut(tmp_path):
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    row = np.asarray(load_rgb(tmp_path / "x.png"))[0]
    assert row.tolist() == [[0] * 3, [1] * 3, [128] * 3, [255] * 3]


def test_float_tiff_is_scaled_from_unit_range(tmp_path):
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)).save(tmp_path / "x.tiff")
    assert np.asarray(load_rgb(tmp_path / "x.tiff"))[0, :, 0].tolist() == [0, 128, 255]


def test_transparency_is_laid_over_white(tmp_path):
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("LA", (2, 2), (0, 255)).save(tmp_path / "solid.png")
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    palette.save(tmp_path / "hole.png", transparency=1)
    palette.save(tmp_path / "whole.png")
    assert first_pixel(tmp_path / "clear.png") == (255, 255, 255)
    assert first_pixel(tmp_path / "solid.png") == (0, 0, 0)
    assert first_pixel(tmp_path / "hole.png") == (255, 255, 255)
    assert first_pixel(tmp_path / "whole.png") == (10, 200, 30)


def test_cmyk_one_bit_and_grey(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.tiff")
    Image.new("1", (2, 2), 1).save(tmp_path / "bit.png")
    Image.new("L", (2, 2), 77).save(tmp_path / "grey.png")
    assert first_pixel(tmp_path / "red.tiff") == (255, 0, 0)
    assert first_pixel(tmp_path / "bit.png") == (255, 255, 255)
    assert first_pixel(tmp_path / "grey.png") == (77, 77, 77)


def test_animation_gives_its_first_frame_and_says_so(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert first_pixel(tmp_path / "x.gif") == (255, 0, 0)
    assert inspect(tmp_path / "x.gif").animated
    frames[0].save(tmp_path / "still.gif")
    assert not inspect(tmp_path / "still.gif").animated


def test_two_pictures_of_a_camera_are_no_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert not inspect(tmp_path / "x.jpg").animated


def png_header(width, height):
    """A PNG that claims a size and holds no pixels."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IEND", b"")]
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, data in chunks:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        parts.append(struct.pack(">I", len(data)) + name + data + checksum)
    return b"".join(parts)


def jpeg_bytes():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


BROKEN = {
    "empty": (b"", "broken image"),
    "text": (b"not an image at all", "broken image"),
    "half a jpeg": (jpeg_bytes()[:1500], "truncated"),
    "header only": (png_header(10, 10), "broken image"),
    "bomb": (png_header(60_000, 60_000), "image too large"),
    "wide bomb": (png_header(MAX_PIXELS + 1, 1), f"{MAX_PIXELS + 1} x 1"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "broken image"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_broken_files_are_named(tmp_path, name):
    data, part = BROKEN[name]
    path = tmp_path / 'it\'s "broken"\n ü.jpg'
    path.write_bytes(data)
    for read in (load_rgb, inspect):
        with pytest.raises(InputError) as caught:
            read(path)
        message = str(caught.value)
        assert part in message and "ü.jpg" in message
        assert "\n" not in message and "expected" in message


def test_missing_folder_and_pipe_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    cases = {"none.jpg": "no such image", "": "is not a file", "pipe.jpg": "is not a file"}
    for name, part in cases.items():
        with pytest.raises(InputError, match=part):
            load_rgb(tmp_path / name)


def test_damaged_exif_does_not_damage_the_pixels(tmp_path):
    Image.new("RGB", (6, 4), "red").save(
        tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff junk"
    )
    assert load_rgb(tmp_path / "x.jpg").size == (6, 4)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 3000), at=st.integers(0, 3000), byte=st.integers(0, 255))
def test_damaged_bytes_load_or_raise_input_error(tmp_path_factory, cut, at, byte):
    data = bytearray(jpeg_bytes())
    data[at % len(data)] = byte
    path = tmp_path_factory.mktemp("damaged") / "x.jpg"
    path.write_bytes(bytes(data[: len(data) - cut % len(data)]))
    try:
        assert load_rgb(path).mode == "RGB"
    except InputError:
        pass


def test_names_of_every_kind_can_be_read(tmp_path):
    for name in ("a b.png", "q'\"`$(x).png", "日本 é.png", "two\nlines.png", "; rm -rf x.png"):
        save_image(tmp_path / name)
        assert load_rgb(tmp_path / name).size == (40, 30)
