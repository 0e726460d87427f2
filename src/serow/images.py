"""Pictures that come with a request: checked, decoded and encoded anew before an engine sees them (GEN-13).

The engine fetches URLs and starts other programs on bytes it can't decode, so only PNG bytes of our own reach it.
"""

import base64
import binascii
import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote

from serow.errors import LimitExceeded, PictureError
from serow.workers.pool import Limits, Pool

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

PRELOAD = ("PIL.Image", "PIL.ImageOps", "PIL.PngImagePlugin", "PIL.JpegImagePlugin")
MAX_PIXELS = 50_000_000  # of one picture
MAX_BYTES = 64 << 20  # of one encoded picture
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
LIGHT_PIXELS = 4_000_000
LIGHT = Limits(cpu=4.0, memory=384 << 20)
_BASE_MEMORY = 320 << 20  # bytes: the picture as it came, as text and as PNG
_PIXEL_MEMORY = 32  # bytes while a pixel is decoded and composed
_UNREADABLE = (  # Pillow lets what its readers stumble over through
    OSError, ValueError, SyntaxError, TypeError, AttributeError, LookupError, ArithmeticError, EOFError, AssertionError,
    struct.error, NotImplementedError, zlib.error,
)  # fmt: skip
_LONGEST_HEAD = 1024  # characters of a data URI before its data
_DATA_URI = re.compile(r'\s*data:(?:[^,"]|"[^"]*")*;\s*base64\s*,', re.IGNORECASE)  # RFC 2397, parameters and all
_PNG_DEPTH = 24  # where the head of a PNG has its bits a sample
_URL_SAFE = str.maketrans("-_", "+/")


def decode_base64(text: str, number: int) -> bytes:
    """Bytes of picture `number` (from 0): standard or URL-safe base64, with or without a data URI or padding."""
    match = _DATA_URI.match(text[:_LONGEST_HEAD])
    given = unquote(text[match.end() :]) if match else text
    payload = "".join(given.split()).rstrip("=").translate(_URL_SAFE)
    if len(payload) > MAX_BYTES * 4 // 3:
        raise PictureError(f"image {number} is larger than {MAX_BYTES >> 20} MiB")
    try:
        return base64.b64decode(payload + "=" * (-len(payload) % 4), validate=True)
    except binascii.Error:
        raise PictureError(f"image {number} is not base64 of a picture; URLs are never fetched") from None


def count_pixels(data: bytes, number: int, max_pixels: int = MAX_PIXELS) -> int:
    """How many pixels a picture has, by its head; raises PictureError for too many, or for what is no picture."""
    from PIL import Image

    with _readable(number), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        size = image.width * image.height
        if not 0 < size <= max_pixels:
            raise PictureError(f"image {number} has {image.width}x{image.height} pixels, more than {max_pixels:,}")
        return size


def encode_png(data: bytes, number: int, max_pixels: int = MAX_PIXELS, *, as_mask: bool = False) -> bytes:
    """The picture as PNG bytes, upright, on white where it was transparent; of an animation the first frame.

    `as_mask`: of one that is transparent somewhere only that counts, and what is not is black.

    Raises PictureError that names the picture by number and says nothing of what is inside.
    """
    from PIL import Image, ImageOps

    count_pixels(data, number, max_pixels)
    with _readable(number), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        depth = data[_PNG_DEPTH] if image.format == "PNG" else 8
        upright = _eight_bits(ImageOps.exif_transpose(image), depth)
        out = io.BytesIO()
        (_transparency(upright) if as_mask else _on_white(upright)).save(out, "PNG", compress_level=1)
        return out.getvalue()


@contextmanager
def _readable(number: int) -> Iterator[None]:
    """Whatever Pillow says of a picture that it can't read, we say that it is broken; it raises many kinds of errors."""
    from PIL import Image

    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except (*_UNREADABLE, Image.DecompressionBombError):
        raise PictureError(f"image {number} can't be read: it is none of {', '.join(FORMATS)}, or broken") from None


def _eight_bits(image: "Picture", depth: int) -> "Picture":
    """The picture with 8 bits a sample, and its transparent colour in those: both are of `depth` bits in a PNG's own words.

    Pillow scales the samples of some depths and not of others, and never the transparent colour.
    """
    from PIL import Image, ImageMath

    transparent = image.info.get("transparency")
    if image.mode.startswith("I"):  # 16 bits, all of them grey
        wide = image.convert("I")
        grey = wide.point(lambda value: value * (1 / 257) + 0.5).convert("L")  # linear, as this mode wants it
        if not isinstance(transparent, int):
            return grey
        opaque = ImageMath.lambda_eval(lambda given: (given["wide"] != transparent) * 255, wide=wide).convert("L")
        return Image.merge("LA", (grey, opaque))
    if image.mode == "L" and depth < 8 and isinstance(transparent, int):
        image.info["transparency"] = transparent * 255 // ((1 << depth) - 1)
    if image.mode == "RGB" and depth == 16 and isinstance(transparent, tuple):
        image.info["transparency"] = tuple(sample >> 8 for sample in transparent)
    return image


def convert(png: bytes, kind: str, quality: int) -> bytes:
    """A picture of ours as JPEG or WebP; `quality` from 0 to 100. Blocks for up to a second."""
    from PIL import Image

    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        out = io.BytesIO()
        image.convert("RGB").save(out, kind.upper(), quality=quality)
        return out.getvalue()


def _transparency(image: "Picture") -> "Picture":
    """White where a picture is transparent, black where it isn't; the picture itself, where it is so nowhere."""
    from PIL import ImageOps

    opaque = image.convert("RGBA").getchannel("A")
    return _on_white(image) if opaque.getextrema() == (255, 255) else ImageOps.invert(opaque).convert("RGB")


def _on_white(image: "Picture") -> "Picture":
    from PIL import Image

    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def decode_image(text: str, number: int, max_pixels: int, most_pixels: int, as_mask: bool = False) -> bytes | None:
    """PNG bytes of one picture; None when it has more than `most_pixels`, without decoding it."""
    data = decode_base64(text, number)
    if count_pixels(data, number, max_pixels) > most_pixels:
        return None
    return encode_png(data, number, max_pixels, as_mask=as_mask)


class Pictures:
    """Decodes pictures in the processes of a pool, one at a time for each request; large ones leave places for small ones."""

    def __init__(self, pool: Pool, max_pixels: int = MAX_PIXELS) -> None:
        self._pool = pool
        self._max_pixels = max_pixels

    async def decode(self, images: Sequence[str], client: str = "", *, as_mask: bool = False) -> list[bytes]:
        """PNG bytes of every picture of a request; raises PictureError that names the picture, Unavailable."""
        return [await self._decode(text, number, client, as_mask) for number, text in enumerate(images)]

    async def _decode(self, text: str, number: int, client: str, as_mask: bool) -> bytes:
        limits = Limits(cpu=20.0, memory=_BASE_MEMORY + self._max_pixels * _PIXEL_MEMORY, wall=60.0)
        try:
            arguments = text, number, self._max_pixels
            png = await self._pool.run(decode_image, *arguments, LIGHT_PIXELS, as_mask, client=client, limits=LIGHT)
            if png is None:
                png = await self._pool.run(decode_image, *arguments, self._max_pixels, as_mask, client=client, limits=limits)
        except LimitExceeded as error:
            raise PictureError(f"image {number} can't be read: the work on it {error.reason}") from None
        assert png is not None
        return png
