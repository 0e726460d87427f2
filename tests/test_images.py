import base64
import io

import pytest
from PIL import Image

from serow.errors import RequestError
from serow.images import MAX_PIXELS, decode_images


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
@pytest.mark.parametrize("wrap", ["{}", "data:image/png;base64,{}", "data:;base64,{}"])
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
