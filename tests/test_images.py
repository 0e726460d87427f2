import base64
import io
import struct
import zlib
from collections.abc import Iterator

import pytest
from PIL import Image

from serow.errors import RequestError
from serow.images import MAX_PIXELS, encode_png
from tests.pictures import decode_images


def encoded(image: Image.Image, form: str) -> bytes:
    out = io.BytesIO()
    image.save(out, form)
    return out.getvalue()


@pytest.mark.req("GEN-13")
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_every_format_reaches_the_engine_as_png(form: str) -> None:
    data = encoded(Image.new("RGB", (8, 4), "red"), form)
    (png,) = decode_images([base64.b64encode(data).decode()])
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.size) == ("PNG", (8, 4))


@pytest.mark.req("GEN-13")
@pytest.mark.parametrize(
    "wrap",
    [
        "{}",
        " \n{}\n",
        "data:image/png;base64,{}",
        "data:;base64,{}",
        " data:image/png;base64,{}",
        "DATA:IMAGE/PNG;BASE64,{}",
        "data:image/png;name=my%20file.png;base64,{}",
        'data:image/png;name="a, b.png";charset=utf-8;base64,{}',
        "data:image/png; base64, {}",
        "data:image/svg+xml;base64,{}%3D%3D",
    ],
)
def test_a_data_uri_and_url_safe_base64_without_padding_are_understood(wrap: str) -> None:
    data = encoded(Image.effect_noise((9, 9), 90), "PNG")
    text = base64.urlsafe_b64encode(data).decode().rstrip("=")
    assert decode_images([wrap.format(text)]) == decode_images([base64.b64encode(data).decode()])


@pytest.mark.req("GEN-13")
@pytest.mark.parametrize("text", ["!!!", "http://127.0.0.1:9/x.png", "aGVsbG8gd29ybGQ=", "", "data:image/png;base64,"])
def test_what_is_no_picture_is_refused_by_its_number(text: str) -> None:
    good = base64.b64encode(encoded(Image.new("RGB", (2, 2)), "PNG")).decode()
    with pytest.raises(RequestError, match="image 1"):
        decode_images([good, text])


@pytest.mark.req("GEN-13")
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    bomb = encoded(Image.new("1", (10_000, MAX_PIXELS // 10_000 + 1)), "PNG")
    assert len(bomb) < 100_000
    with pytest.raises(RequestError, match="pixels"):
        decode_images([base64.b64encode(bomb).decode()])


@pytest.mark.req("GEN-13")
def test_a_truncated_picture_is_refused() -> None:
    data = encoded(Image.effect_noise((64, 64), 90), "PNG")
    with pytest.raises(RequestError, match="broken"):
        decode_images([base64.b64encode(data[: len(data) // 2]).decode()])


def test_what_is_transparent_lies_on_white() -> None:
    (png,) = decode_images([base64.b64encode(encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 0)), "PNG")).decode()])
    with Image.open(io.BytesIO(png)) as image:
        assert image.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.req("IMG-02")
@pytest.mark.parametrize(
    ("mode", "colours", "expected"),
    [
        ("RGBA", [(9, 9, 9, 0), (200, 5, 5, 255)], [255, 0]),  # as OpenAI's clients send it: a hole in the picture itself
        ("LA", [(255, 255), (0, 255)], [255, 0]),
        ("RGB", [(255, 255, 255), (0, 0, 0)], [255, 0]),
    ],
)
def test_a_mask_is_what_is_transparent_or_where_nothing_is_what_is_white(
    mode: str, colours: list[tuple[int, ...]], expected: list[int]
) -> None:
    image = Image.new(mode, (2, 1))
    image.putdata(colours)
    with Image.open(io.BytesIO(encode_png(encoded(image, "PNG"), 0, as_mask=True))) as mask:
        assert [mask.convert("L").getpixel((x, 0)) for x in range(2)] == expected


def png(depth: int, colour: int, samples: list[int], transparent: tuple[int, ...] = (), palette: bytes = b"") -> bytes:
    """A PNG of one row, in its format's own words: pixels of one sample, or of several one after the other."""
    bits = "".join(f"{sample:0{depth}b}" for sample in samples)
    row = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    width = len(samples) // {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    see_through = bytes(transparent) if colour == 3 else struct.pack(f">{len(transparent)}H", *transparent)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)),
        (b"PLTE", palette),
        (b"tRNS", see_through),
        (b"IDAT", zlib.compress(b"\0" + row)),
    ]
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks if d]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + b"\0\0\0\0IEND\xaeB`\x82"


def greys() -> Iterator[tuple[bytes, list[int]]]:
    """Greys of every depth, each with and without a colour that is transparent, and what is seen of them on white."""
    for depth in (1, 2, 4, 8, 16):
        top = (1 << depth) - 1
        samples = [0, top // 3, top // 2, top]
        for transparent in ((), (top // 2,), (0,)):
            seen = [255 if sample in transparent else round(sample * 255 / top) for sample in samples]
            yield png(depth, 0, samples, transparent), seen


@pytest.mark.req("GEN-13")
@pytest.mark.parametrize(("data", "seen"), list(greys()))
def test_greys_of_every_depth_are_seen_as_they_are(data: bytes, seen: list[int]) -> None:
    (told,) = decode_images([base64.b64encode(data).decode()])
    with Image.open(io.BytesIO(told)) as image:
        found = [image.getpixel((x, 0)) for x in range(len(seen))]
    assert all(abs(value - grey) <= 1 for pixel, grey in zip(found, seen, strict=True) for value in pixel), (found, seen)  # type: ignore[union-attr]


@pytest.mark.req("GEN-13")
@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (png(8, 2, [9, 9, 9, 200, 0, 0], (9, 9, 9)), [(255, 255, 255), (200, 0, 0)]),
        (png(16, 2, [0x1234, 0, 0, 0xFFFF, 0, 0x8000], (0x1234, 0, 0)), [(255, 255, 255), (255, 0, 128)]),
        (png(2, 3, [0, 1], (255, 0), b"\x01\x02\x03\x04\x05\x06"), [(1, 2, 3), (255, 255, 255)]),
        (png(8, 4, [0, 0, 7, 255]), [(255, 255, 255), (7, 7, 7)]),
        (png(16, 4, [0, 0, 0x0700, 0xFFFF]), [(255, 255, 255), (7, 7, 7)]),
        (png(16, 6, [0, 0, 0, 0, 0xFFFF, 0, 0, 0xFFFF]), [(255, 255, 255), (255, 0, 0)]),
    ],
)
def test_colours_of_every_depth_are_seen_on_white(data: bytes, seen: list[tuple[int, int, int]]) -> None:
    (told,) = decode_images([base64.b64encode(data).decode()])
    with Image.open(io.BytesIO(told)) as image:
        assert [image.getpixel((x, 0)) for x in range(2)] == seen
