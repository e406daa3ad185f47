"""The gate for picture files: every format, depth, mode, orientation and damage gives the right pixels or one line."""

import struct
import zlib

import numpy as np
import PIL
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from course_lib.data.files import SUFFIXES, _decoded, read_image
from course_lib.errors import CourseError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

# --- files, byte by byte ----------------------------------------------------------------------------------------------


def png(depth: int, kind: int, rows: list[bytes], width: int = 2, extra: bytes = b"", **chunks: bytes) -> bytes:
    """A PNG of one bit depth and colour type (0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGBA)."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), extra, *(chunk(n.encode(), c) for n, c in chunks.items())]
    return b"".join([*parts, chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), chunk(b"IEND", b"")])


def tiff(pixels: bytes, bits: int, kind: int = 1, photometric: int = 1, order: str = "<", samples: int = 1) -> bytes:
    """A 2×2 TIFF without compression; ``kind`` 1 unsigned, 2 signed, 3 float."""
    tags = {256: 2, 257: 2, 259: 1, 262: photometric, 277: samples, 278: 2}
    count, arrays = len(tags) + 4, b""
    after = 8 + 2 + 12 * count + 4
    entries = [(tag, struct.pack(order + "HHIHH", tag, 3, 1, value, 0)) for tag, value in tags.items()]
    for tag, value in ((258, bits), (339, kind)):
        if samples == 1:
            entries.append((tag, struct.pack(order + "HHIHH", tag, 3, 1, value, 0)))
        else:
            entries.append((tag, struct.pack(order + "HHII", tag, 3, samples, after + len(arrays))))
            arrays += struct.pack(f"{order}{samples}H", *[value] * samples)
    for tag, value in ((273, after + 2 * 2 * samples * (samples > 1)), (279, len(pixels))):
        entries.append((tag, struct.pack(order + "HHII", tag, 4, 1, value)))
    body = b"".join(entry for _, entry in sorted(entries))
    start = b"II" if order == "<" else b"MM"
    return start + struct.pack(order + "HIH", 42, 8, count) + body + bytes(4) + arrays + pixels


def big(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}H", *numbers)


def little(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}H", *numbers)


# Name → file of 2×2 or 2×1 pixels, and the RGB (or grey) values that it must give, row by row.
PIXELS = {
    "P5 of 16 bits.pgm": (b"P5 2 2 65535\n" + big(0, 30000, 65535, 257), [0, 117, 255, 1]),
    "P5 of 12 bits.pgm": (b"P5 2 2 4095\n" + big(0, 2000, 4095, 16), [0, 125, 255, 1]),
    "P5 of 4 bits.pgm": (b"P5 2 2 15\n" + bytes([0, 7, 15, 1]), [0, 119, 255, 17]),
    "P2 up to 1000.pgm": (b"P2 2 2 1000\n0 500 1000 1\n", [0, 128, 255, 0]),
    "P6 of 16 bits.ppm": (b"P6 2 1 65535\n" + big(0, 30000, 65535, 257, 0, 0), [(0, 117, 255), (1, 0, 0)]),
    "P3 up to 1023.ppm": (b"P3 2 1 1023\n0 512 1023 0 0 0\n", [(0, 128, 255), (0, 0, 0)]),
    "P4.pbm": (b"P4 2 2\n\x40\x80", [255, 0, 0, 255]),
    "P1.pnm": (b"P1 2 2\n0 1 1 0\n", [255, 0, 0, 255]),
    "1 bit.png": (png(1, 0, [b"\x80"]), [255, 0]),
    "2 bits.png": (png(2, 0, [b"\x60"]), [85, 170]),
    "4 bits.png": (png(4, 0, [b"\x1f"]), [17, 255]),
    "16 bits.png": (png(16, 0, [big(30000, 65535)]), [117, 255]),
    "16 bits RGB.png": (png(16, 2, [big(0x80FF, 0, 65535, 0, 0, 0)]), [(128, 0, 255), (0, 0, 0)]),
    "16 bits RGBA.png": (png(16, 6, [big(65535, 0, 0, 0, 0, 0, 0, 65535)]), [255, 0]),
    "16 bits grey and alpha.png": (png(16, 4, [big(0, 0, 0, 65535)]), [255, 0]),
    "palette.png": (png(4, 3, [b"\x01"], PLTE=bytes([255, 0, 0, 0, 255, 0])), [(255, 0, 0), (0, 255, 0)]),
    "palette, one clear.png": (png(4, 3, [b"\x01"], PLTE=bytes([9, 9, 9, 0, 255, 0]), tRNS=b"\0"), [255, (0, 255, 0)]),
    "1 bit, black clear.png": (png(1, 0, [b"\x80"], tRNS=big(0)), [255, 255]),
    "2 bits, grey clear.png": (png(2, 0, [b"\x60"], tRNS=big(1)), [255, 170]),
    "4 bits, grey clear.png": (png(4, 0, [b"\x1f"], tRNS=big(1)), [255, 255]),
    "8 bits, grey clear.png": (png(8, 0, [bytes([7, 8])], tRNS=big(7)), [255, 8]),
    "16 bits, one clear.png": (png(16, 0, [big(257, 258)], tRNS=big(257)), [255, 1]),
    "16 bits RGB, one clear.png": (png(16, 2, [big(0x80FF, 0, 0, 1, 1, 1)], tRNS=big(0x80FF, 0, 0)), [255, 0]),
    "16 bits.tif": (tiff(little(0, 30000, 65535, 257), 16), [0, 117, 255, 1]),
    "16 bits big-endian.tif": (tiff(big(0, 30000, 65535, 257), 16, order=">"), [0, 117, 255, 1]),
    "16 bits, white is zero.tif": (tiff(little(0, 30000, 65535, 257), 16, photometric=0), [255, 138, 0, 254]),
    "8 bits, white is zero.tif": (tiff(bytes([0, 100, 255, 3]), 8, photometric=0), [255, 155, 0, 252]),
    "12 bits.tif": (tiff(bytes([0xFF, 0xF0, 0x00, 0x7F, 0xF0, 0x00]), 12), [255, 0, 127, 0]),
    "4 bits.tif": (tiff(bytes([0xF0, 0x3F]), 4), [255, 0, 51, 255]),
    "1 bit, white is zero.tif": (tiff(bytes([0x80, 0x40]), 1, photometric=0), [0, 255, 255, 0]),
    "16 bits RGB.tif": (tiff(little(*[65535, 0, 257] * 4), 16, photometric=2, samples=3), [(255, 0, 1)] * 4),
    "CMYK.tif": (tiff(bytes([0, 255, 0, 0]) * 4, 8, photometric=5, samples=4), [(255, 0, 255)] * 4),
}

REFUSED = {
    "float.tif": (tiff(struct.pack("<4f", 0, 0.5, 1, 2), 32, 3), "no fixed range"),
    "signed 16.tif": (tiff(struct.pack("<4h", 0, -3, 5, 7), 16, 2), "no fixed range"),
    "signed 8.tif": (tiff(struct.pack("<4b", 0, -3, 5, 7), 8, 2), "no fixed range"),
    "32 bits.tif": (tiff(struct.pack("<4I", 0, 1, 2, 3), 32), "32-bit"),
    "float map.pgm": (b"Pf\n2 2\n-1.0\n" + struct.pack("<4f", 0, 1, 0, 1), "no fixed range"),
    "double.tif": (tiff(struct.pack("<4d", 0, 1, 2, 3), 64, 3), "cannot be read"),
    "empty.png": (b"", "cannot be read"),
    "text.jpg": (b"cats are fine", "cannot be read"),
    "page.png": (b"<!DOCTYPE html><title>404</title>", "cannot be read"),
    "zip.webp": (b"PK\x03\x04" + bytes(40), "cannot be read"),
    "cut head.png": (png(8, 0, [bytes(2)])[:20], "cannot be read"),
    "cut pixels.png": (png(8, 0, [bytes(range(200))] * 9, width=200)[:90], "cannot be read"),
    "wrong sum.png": (png(8, 0, [bytes(range(2))]).replace(b"IDAT", b"IDAX"), "cannot be read"),
}


@pytest.mark.parametrize("name", PIXELS)
def test_every_sample_format_has_the_right_pixels(tmp_path, name):
    content, values = PIXELS[name]
    (tmp_path / name).write_bytes(content)
    expected = torch.tensor([value if isinstance(value, tuple) else (value,) * 3 for value in values])
    pixels = np.asarray(_decoded(tmp_path / name)).reshape(-1, 3)
    assert pixels.tolist() == expected.tolist()


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_right_is_refused_in_one_line_with_the_name(tmp_path, name):
    content, words = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CourseError, match=words) as caught:
        read_image(tmp_path / name, 2)
    assert name in str(caught.value) and "\n" not in str(caught.value)


# --- orientation and metadata -----------------------------------------------------------------------------------------

TURNED = [
    None,
    "FLIP_LEFT_RIGHT",
    "ROTATE_180",
    "FLIP_TOP_BOTTOM",
    "TRANSPOSE",
    "ROTATE_90",
    "TRANSVERSE",
    "ROTATE_270",
]
"""What the camera did to an upright picture before it wrote orientation 1 to 8."""
PICTURE = np.zeros((16, 16, 3), np.uint8)
PICTURE[:8, :8], PICTURE[:8, 8:], PICTURE[8:, :8], PICTURE[8:, 8:] = (
    (250, 0, 0),
    (0, 250, 0),
    (0, 0, 250),
    (250, 250, 0),
)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_upright(tmp_path, suffix, orientation):
    upright, exif = Image.fromarray(PICTURE), Image.Exif()
    exif[0x0112] = orientation
    turn = TURNED[orientation - 1]
    taken = upright.transpose(Image.Transpose[turn]) if turn else upright
    options = {"quality": 98} if suffix in ("jpg", "avif") else {"lossless": True} if suffix == "webp" else {}
    taken.save(tmp_path / f"a.{suffix}", exif=exif, **options)
    found = read_image(tmp_path / f"a.{suffix}", 16).permute(1, 2, 0).int().numpy()
    corners = [(3, 3), (3, 12), (12, 3), (12, 12)]
    assert max(abs(found[place] - PICTURE[place].astype(int)).max() for place in corners) < 40


def junk(name: bytes, content: bytes, right: bool = True) -> bytes:
    check = zlib.crc32(name + content) if right else 0
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


@pytest.mark.parametrize(
    "chunk",
    [
        junk(b"tEXt", b"Comment\0fine", right=False),
        junk(b"iCCP", b"profile\0\0garbage"),
        junk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**21))),
        junk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff"),
        junk(b"eXIf", b"nothing of the kind"),
        junk(b"gAMA", b"\0"),
        junk(b"tIME", b""),
    ],
    ids=range(7),
)
def test_metadata_of_a_png_never_decides(tmp_path, chunk):
    (tmp_path / "a.png").write_bytes(png(8, 0, [bytes([7, 8]), bytes([9, 10])], extra=chunk))
    assert read_image(tmp_path / "a.png", 2)[0].flatten().tolist() == [7, 8, 9, 10]


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12"]
)
@pytest.mark.parametrize("suffix", ["jpg", "webp", "png"])
def test_damaged_exif_never_decides(tmp_path, exif, suffix):
    Image.fromarray(PICTURE).save(tmp_path / f"a.{suffix}", exif=exif, quality=98)
    assert abs(read_image(tmp_path / f"a.{suffix}", 16)[:, 3, 3].int() - torch.tensor([250, 0, 0])).max() < 20


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_unknown_orientation_is_none(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PICTURE).save(tmp_path / "a.png", exif=exif)
    assert read_image(tmp_path / "a.png", 16)[:, 3, 3].tolist() == [250, 0, 0]


def test_content_decides_and_not_the_name(tmp_path):
    for k, (true, claimed) in enumerate((("PNG", "jpg"), ("JPEG", "png"), ("GIF", "webp"), ("TIFF", "bmp"))):
        Image.fromarray(PICTURE).save(tmp_path / f"{k}.{claimed}", true)
        assert abs(read_image(tmp_path / f"{k}.{claimed}", 16)[:, 3, 3].int() - torch.tensor([250, 0, 0])).max() < 40


# --- property tests ---------------------------------------------------------------------------------------------------

LOSSLESS = {"L": ("png", "tif", "bmp", "pgm", "gif", "webp"), "RGB": ("png", "tif", "bmp", "ppm", "tga", "webp", "jp2")}
LOSSLESS |= {"LA": ("png", "tif", "tga"), "RGBA": ("png", "tif", "tga", "webp", "ico"), "1": ("png", "tif", "pbm")}
LOSSLESS |= {"I;16": ("png", "tif", "pgm"), "P": ("png", "gif", "bmp", "tif"), "CMYK": ("tif",)}
if int(PIL.__version__.split(".")[0]) >= 13:  # older ones cannot read the TIFF files that they write
    LOSSLESS["YCbCr"] = ("tif",)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), mode=st.sampled_from(sorted(LOSSLESS)), side=st.integers(1, 20))
def test_what_is_written_without_loss_is_read_as_written(data, mode, side, tmp_path_factory):
    suffix = data.draw(st.sampled_from(LOSSLESS[mode]))
    draw = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    depth = {"L": 1, "RGB": 3, "LA": 2, "RGBA": 4, "CMYK": 4, "YCbCr": 3, "P": 1, "1": 1, "I;16": 1}[mode]
    if mode == "I;16":
        values = draw.integers(0, 65536, (side, side)).astype(np.uint16)
        image = Image.fromarray(values)
        white = np.repeat((values / 257).round().astype(int)[..., None], 3, 2)
    else:
        values = draw.integers(0, 256, (side, side, depth), dtype=np.uint8)
        plain = Image.fromarray(values.squeeze(-1) if depth == 1 else values, None if depth == 1 else mode)
        image = plain.convert("1") if mode == "1" else plain.convert("P") if mode == "P" else plain
        if mode in ("LA", "RGBA"):
            colour, alpha = values[..., :-1].astype(float), values[..., -1:] / 255.0
            white = np.broadcast_to(colour * alpha + 255 * (1 - alpha), (side, side, 3))
        else:
            white = np.asarray(image.convert("RGB")).astype(int)
    path = tmp_path_factory.mktemp("kept") / f"a.{suffix}"
    options = (
        {"lossless": True, "exact": True} if suffix == "webp" else {"irreversible": False} if suffix == "jp2" else {}
    )
    image.save(path, **options | ({"sizes": [(side, side)]} if suffix == "ico" else {}))
    found = read_image(path, side).permute(1, 2, 0).int().numpy()
    assert np.abs(found - white).max() <= 1.01, (mode, suffix)


@settings(max_examples=40, deadline=None)
@given(suffix=st.sampled_from(["png", "gif", "bmp", "tif", "pgm", "webp", "jpg"]), share=st.floats(0, 0.99))
def test_a_cut_file_gives_its_name_or_the_whole_picture(suffix, share, tmp_path_factory):
    path = tmp_path_factory.mktemp("cut") / f"x.{suffix}"
    noise = np.random.default_rng(1).integers(0, 256, (40, 40), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole, content = read_image(path, 40), path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    try:
        found = read_image(path, 40)
    except CourseError as error:
        assert path.name in str(error) and "\n" not in str(error)
    else:
        assert torch.equal(found, whole)


def test_of_an_animation_the_first_frame_is_taken_and_no_file_stays_open(tmp_path):
    import psutil

    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for suffix in ("gif", "webp", "png", "tif"):
        frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
        assert abs(read_image(tmp_path / f"a.{suffix}", 8)[:, 4, 4].int() - torch.tensor([255, 0, 0])).max() < 10
    assert not [one for one in psutil.Process().open_files() if str(tmp_path) in one.path]


def test_colour_spaces_that_are_not_rgb(tmp_path):
    Image.new("LAB", (8, 8), (255, 128, 128)).save(tmp_path / "lab.tif")
    assert (read_image(tmp_path / "lab.tif", 4) >= 250).all()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=98)
    assert abs(read_image(tmp_path / "cmyk.jpg", 4)[:, 1, 1].int() - torch.tensor([255, 0, 0])).max() < 12


def test_known_endings_are_those_that_can_be_read():
    formats = Image.registered_extensions()
    assert all(suffix in formats for suffix in SUFFIXES if suffix != ".npy")
