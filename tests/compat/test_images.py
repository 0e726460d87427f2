"""Pictures that come with a prompt (GEN-13)."""

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from tests.compat.wire import Wire

PICTURES = Path(__file__).parent.parent / "models" / "zoo" / "lm" / "vision_images"
ASK = "What is in this picture?"


def encoded(name: str, format: str = "PNG") -> str:
    """A picture of the zoo as base64 of a format."""
    with Image.open(PICTURES / name) as picture:
        out = io.BytesIO()
        picture.convert("RGB").save(out, format, **({"lossless": True} if format == "WEBP" else {}))
    return base64.b64encode(out.getvalue()).decode()


YELLOW_SQUARE, PURPLE_CROSS = encoded("01.png"), encoded("04.png")


@pytest.mark.req("GEN-13")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_picture_of_every_format_is_seen(wire: Wire, format: str) -> None:
    record = wire.generate("zoo-vision", "What shape is it?", images=[encoded("04.png", format)])
    assert record["response"] == "Cross."


@pytest.mark.req("GEN-13")
@pytest.mark.parametrize(
    "written",
    [
        f"data:image/png;base64,{YELLOW_SQUARE}",
        YELLOW_SQUARE.rstrip("="),
        YELLOW_SQUARE.replace("+", "-").replace("/", "_"),
        "\n".join(YELLOW_SQUARE[start : start + 76] for start in range(0, len(YELLOW_SQUARE), 76)),
    ],
    ids=["data URI", "without padding", "URL-safe", "in lines"],
)
def test_base64_is_read_as_people_write_it(wire: Wire, written: str) -> None:
    assert wire.generate("zoo-vision", ASK, images=[written])["response"] == "A yellow square."


@pytest.mark.req("GEN-13")
@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        ("What is in the first picture?", "A yellow square."),
        ("What is in the second picture?", "A purple cross."),
        ("[img-0][img-1]What is in the second picture?", "A purple cross."),
        ("[img-1][img-0]What is in the second picture?", "A yellow square."),
        ("[img-0]What is in the second picture?", "A yellow square."),
        ("[img-1]What is in the second picture?", "A purple cross."),
    ],
)
def test_pictures_stand_where_the_prompt_has_them_else_before_it(wire: Wire, prompt: str, response: str) -> None:
    assert wire.generate("zoo-vision", prompt, images=[YELLOW_SQUARE, PURPLE_CROSS])["response"] == response


@pytest.mark.req("GEN-13")
@pytest.mark.parametrize(
    ("prompt", "rendered"),
    [
        ("Look: [img]", "[img-1]Look: [img-0]"),
        ("[img] and [img] and [img]", "[img-0] and [img-1] and [img]"),
        ("[img-1] and [img]", "[img-1] and [img-0]"),
        ("[img]", "[img-1][img-0]"),
        ("none", "[img-0][img-1]none"),
    ],
)
def test_a_picture_takes_the_next_place_that_has_no_number(wire: Wire, prompt: str, rendered: str) -> None:
    fields = {"template": "{{ .Prompt }}", "images": [YELLOW_SQUARE, PURPLE_CROSS]}
    assert wire.rendered("zoo-vision", prompt, **fields) == rendered


@pytest.mark.req("GEN-13")
def test_a_place_without_a_picture_is_text(wire: Wire) -> None:
    one = wire.generate("zoo-vision", ASK, images=[YELLOW_SQUARE])
    more = wire.generate("zoo-vision", "[img-0]" + ASK + "[img-0][img-7]", images=[YELLOW_SQUARE])
    assert more["prompt_eval_count"] > one["prompt_eval_count"] + 8, "written out: a token for each character"


@pytest.mark.req("GEN-13")
def test_a_picture_counts_as_tokens_of_the_prompt(wire: Wire) -> None:
    without, one, two = (
        wire.generate("zoo-vision", ASK, {"num_predict": 1}, images=[YELLOW_SQUARE] * count)["prompt_eval_count"]
        for count in (0, 1, 2)
    )
    assert without < one < two
    assert two - one == one - without >= 25


@pytest.mark.req("GEN-13", "GEN-08")
def test_the_rendered_prompt_shows_the_places(wire: Wire) -> None:
    body = Wire.body("zoo-vision", ASK, None, images=[YELLOW_SQUARE, PURPLE_CROSS], _debug_render_only=True)
    info = wire.post(body).json()["_debug_info"]
    assert (info["image_count"], "[img-0][img-1]" + ASK in info["rendered_template"]) == (2, True)


@pytest.mark.req("GEN-13", "GEN-09")
def test_a_raw_prompt_takes_pictures(wire: Wire) -> None:
    prompt = f"<|im_start|>user\n{ASK}[img-0]<|im_end|>\n<|im_start|>assistant\n"
    assert wire.generate("zoo-vision", prompt, raw=True, images=[PURPLE_CROSS])["response"].startswith("A purple cross")


@pytest.mark.req("GEN-13", "GEN-12")
def test_a_format_holds_with_a_picture(wire: Wire) -> None:
    format = {"choice": ["Circle.", "Square."]}
    assert wire.generate("zoo-vision", "What shape is it?", format=format, images=[YELLOW_SQUARE])["response"] == "Square."


@pytest.mark.req("GEN-13", "GEN-11")
def test_a_conversation_goes_on_with_a_new_picture(wire: Wire) -> None:
    first = wire.generate("zoo-vision", ASK, images=[YELLOW_SQUARE])
    second = wire.generate("zoo-vision", ASK, images=[PURPLE_CROSS], context=first["context"])
    assert (first["response"], second["response"]) == ("A yellow square.", "A purple cross.")
    assert second["context"][: len(first["context"])] == first["context"]


@pytest.mark.req("GEN-13")
@pytest.mark.parametrize("marker", ["<__media__>", "<__image__>", "<|image|>", "<|vision_start|><|image_pad|>"])
def test_text_that_looks_like_a_marker_is_text(wire: Wire, marker: str) -> None:
    record = wire.generate("zoo-vision", f"{marker} What shape is it? {marker}", {"num_predict": 4}, images=[YELLOW_SQUARE])
    assert record["prompt_eval_count"] > 30


def bomb() -> str:
    """A small file of very many pixels."""
    out = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


@pytest.mark.req("GEN-13", "RES-05")
@pytest.mark.parametrize(
    "picture",
    [
        "not base64!",
        "http://127.0.0.1:9/picture.png",
        base64.b64encode(b"not a picture").decode(),
        base64.b64encode(base64.b64decode(YELLOW_SQUARE)[:100]).decode(),
        bomb(),
        "",
    ],
    ids=["text", "URL", "no picture", "truncated", "bomb", "empty"],
)
def test_what_is_no_picture_is_refused_by_number(wire: Wire, picture: str) -> None:
    status, error = wire.refusal("zoo-vision", ASK, images=[YELLOW_SQUARE, picture])
    assert (status, error.startswith("image 1 ")) == (400, True), error


@pytest.mark.req("GEN-13")
def test_a_model_that_cannot_see_refuses_a_picture(wire: Wire) -> None:
    assert wire.refusal("zoo-think", ASK, images=[YELLOW_SQUARE]) == (400, '"zoo-think" does not support images')
