"""Pictures that come with a request: checked, decoded and encoded anew before an engine sees them (GEN-13).

The engine fetches URLs and starts other programs on bytes it can't decode, so only PNG bytes of our own reach it.
"""

import base64
import binascii
import io
import re
import warnings
from typing import TYPE_CHECKING

from serow.errors import RequestError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

MAX_PIXELS = 50_000_000  # of one picture
MAX_BYTES = 64 << 20  # of one encoded picture
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_DATA_URI = re.compile(r"data:[\w./+-]*(;[\w=.+-]+)*;base64,")
_URL_SAFE = str.maketrans("-_", "+/")


def decode_base64(text: str, number: int) -> bytes:
    """Bytes of picture `number` (from 0): standard or URL-safe base64, with or without a data URI or padding."""
    match = _DATA_URI.match(text[:256])
    payload = "".join(text[match.end() if match else 0 :].split()).rstrip("=").translate(_URL_SAFE)
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
            upright = ImageOps.exif_transpose(image)
            out = io.BytesIO()
            _on_white(upright).save(out, "PNG", compress_level=1)
            return out.getvalue()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise RequestError(f"image {number} can't be read: it is none of {', '.join(FORMATS)}, or broken") from None


def _on_white(image: "Picture") -> "Picture":
    from PIL import Image

    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def decode_images(images: list[str], max_pixels: int = MAX_PIXELS) -> list[bytes]:
    """PNG bytes of every picture of a request; blocking, so call it in a thread."""
    return [encode_png(decode_base64(text, number), number, max_pixels) for number, text in enumerate(images)]
