"""Pictures that come with a request: checked, decoded and encoded anew before an engine sees them (GEN-13).

The engine fetches URLs and starts other programs on bytes it can't decode, so only PNG bytes of our own reach it.
"""

import base64
import binascii
import io
import re
import warnings
from typing import TYPE_CHECKING
from urllib.parse import unquote

from serow.errors import RequestError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

MAX_PIXELS = 50_000_000  # of one picture
MAX_BYTES = 64 << 20  # of one encoded picture
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
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
        raise RequestError(f"image {number} is larger than {MAX_BYTES >> 20} MiB")
    try:
        return base64.b64decode(payload + "=" * (-len(payload) % 4), validate=True)
    except binascii.Error:
        raise RequestError(f"image {number} is not base64 of a picture; URLs are never fetched") from None


def encode_png(data: bytes, number: int, max_pixels: int = MAX_PIXELS) -> bytes:
    """The picture as PNG bytes, upright, on white where it was transparent; of an animation the first frame.

    Raises RequestError that names the picture by number and says nothing of what is inside.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if not 0 < image.width * image.height <= max_pixels:
                raise RequestError(f"image {number} has {image.width}x{image.height} pixels, more than {max_pixels:,}")
            depth = data[_PNG_DEPTH] if image.format == "PNG" else 8
            upright = _eight_bits(ImageOps.exif_transpose(image), depth)
            out = io.BytesIO()
            _on_white(upright).save(out, "PNG", compress_level=1)
            return out.getvalue()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise RequestError(f"image {number} can't be read: it is none of {', '.join(FORMATS)}, or broken") from None


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


def _on_white(image: "Picture") -> "Picture":
    from PIL import Image

    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def decode_images(images: list[str], max_pixels: int = MAX_PIXELS) -> list[bytes]:
    """PNG bytes of every picture of a request; blocking, so call it in a thread."""
    return [encode_png(decode_base64(text, number), number, max_pixels) for number, text in enumerate(images)]
