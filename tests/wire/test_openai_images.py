"""OpenAI's pictures on the wire: JSON and forms in, pictures out."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serow.errors import EngineDied, RequestError
from serow.inference.ask import Picture
from serow.inference.events import Done, Event, Step, Usage
from serow.inference.events import Picture as Drawn
from serow.wire.multipart import FormPart, parse_form
from serow.wire.openai_images import PictureRequest, PictureStream, decode, decode_edit, whole
from tests.wire.streams import data_of, folded, sent

DRAWN: list[Event] = [Step(1, 2), Step(2, 2), Drawn(b"png"), Done(reason="stop", usage=Usage(prompt_eval_count=3))]
BOUNDARY = "zoo-boundary-7MA4YWxk"


def decoded(**fields: Any) -> PictureRequest:
    return decode(json.dumps({"model": "m", "prompt": "p", **fields}).encode())


def edited(**fields: Any) -> PictureRequest:
    body = {"model": "m", "prompt": "p", "image": "iVBO", **fields}
    return decode_edit(json.dumps(body).encode(), "application/json")


def form(*parts: tuple[str, bytes]) -> bytes:
    pieces = (f"--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data for head, data in parts)
    return b"\r\n".join(pieces) + f"\r\n--{BOUNDARY}--\r\n".encode()


def of_form(*parts: tuple[str, bytes]) -> PictureRequest:
    return decode_edit(form(*parts), f"multipart/form-data; boundary={BOUNDARY}")


@pytest.mark.req("IMG-01")
def test_a_description_is_a_picture_for_each_choice() -> None:
    request = decoded(n=2, seed=4, size="64x32", output_format="webp", quality="auto", stream=True)
    assert request.ask.prompt == Picture("p", 64, 32)
    assert [ask.options for ask in request.asks] == [{"seed": 4}, {"seed": 5}]
    assert (request.output_format, request.ask.warnings) == ("webp", ())
    assert decoded(size="auto").ask.prompt == Picture("p")


@pytest.mark.req("IMG-01")
@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"prompt": ""}, "prompt", "prompt is required"),
        ({"prompt": "", "model": ""}, "prompt", "prompt is required"),
        ({"model": None}, "model", "model is required"),
        ({"size": "big"}, "size", "big"),
        ({"size": "0x5"}, "size", "between"),
        ({"size": "9000x5"}, "size", "between"),
        ({"n": 11}, "n", "between 1 and 10"),
        ({"response_format": "url"}, "response_format", '"url"'),
        ({"response_format": "jpeg"}, "response_format", '"jpeg"'),
        ({"output_format": "gif"}, "output_format", "gif"),
        ({"seed": "x"}, "seed", "integer"),
    ],
)
def test_a_fault_names_its_field(fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as raised:
        decoded(**fields)
    assert raised.value.param == param


@pytest.mark.req("IMG-01")
def test_settings_that_no_model_here_has_are_named() -> None:
    warnings = decoded(quality="hd", style="vivid", background="transparent", moderation="low", partial_images=2).ask.warnings
    assert [text.split('"')[1] for text in warnings] == ["quality", "style", "background", "moderation", "partial_images"]


@pytest.mark.req("IMG-02")
@pytest.mark.parametrize("image", [None, "http://127.0.0.1:9/x.png", "file:///x", "", [5], [{"image_url": "https://x"}]])
def test_an_edit_needs_a_picture_that_is_here(image: Any) -> None:
    with pytest.raises(RequestError, match=r"image is required|invalid image: ") as raised:
        edited(image=image)
    assert raised.value.param == "image"


@pytest.mark.req("IMG-02")
def test_a_mask_belongs_to_a_picture_that_is_here() -> None:
    assert edited(mask="iVBO").ask.options["mask"] == edited(mask={"image_url": "iVBO"}).ask.options["mask"] == "iVBO"
    for asked, mask in ((edited, "https://x/m.png"), (edited, 5), (decoded, "iVBO")):
        with pytest.raises(RequestError, match="mask") as raised:
            asked(mask=mask)
        assert raised.value.param == "mask"


@pytest.mark.req("IMG-01", "IMG-02")
@pytest.mark.parametrize(("number", "steps"), [(0, []), (1, [5]), (2, [4, 7]), (3, [3, 5, 8])])
def test_partial_pictures_divide_the_steps(number: int, steps: list[int]) -> None:
    request = edited(stream=True, partial_images=number)
    assert request.ask.options.get("preview", 0) == min(number, 1) and request.ask.warnings == ()
    events = [Step(completed, 10, b"%d" % completed) for completed in range(1, 11)]
    *partial, last = data_of(sent(PictureStream(request), [*events, *DRAWN[2:]]))
    assert [base64.b64decode(each["b64_json"]) for each in partial] == [b"%d" % step for step in steps]
    assert [(each["type"], each["partial_image_index"]) for each in partial] == [
        ("image_edit.partial_image", index) for index in range(number)
    ]
    assert last["type"] == "image_edit.completed" and all(each["output_format"] == "jpeg" for each in partial)


@pytest.mark.req("IMG-01")
@pytest.mark.parametrize("number", [-1, 4])
def test_more_partial_pictures_than_three_are_refused(number: int) -> None:
    with pytest.raises(RequestError, match="partial_images"):
        decoded(stream=True, partial_images=number)


@pytest.mark.req("IMG-02")
def test_a_form_is_what_the_sdks_send() -> None:
    picture = b"\x89PNG\r\n\x1a\n--zoo\r\n\x00"
    request = of_form(
        ('name="model"', b"m"),
        ('name="prompt"', "mach es blau ä".encode()),
        ('name="n"', b"2"),
        ('name="stream"', b"true"),
        ('name="image[]"; filename="a.png"\r\nContent-Type: image/png', picture),
        ('name="image[]"; filename="b.png"', b"two"),
        ('name="mask"; filename="m.png"', b"m"),
    )
    images = tuple(base64.b64encode(each).decode() for each in (picture, b"two"))
    assert request.ask.prompt == Picture("mach es blau ä", images=images)
    assert (len(request.asks), request.ask.stream, request.is_edit) == (2, True, True)
    assert request.ask.options["mask"] == base64.b64encode(b"m").decode() and request.ask.warnings == ()
    assert edited(image=["data:image/png;base64,eA=="]).ask.prompt == Picture("p", images=("data:image/png;base64,eA==",))


@pytest.mark.req("PIC-06", "IMG-01")
def test_pictures_that_are_not_streamed_are_asked_for_together() -> None:
    assert [ask.options for ask in decoded(n=10, seed=4).asks] == [{"n": 8, "seed": 4}, {"n": 2, "seed": 12}]
    assert [ask.options for ask in decoded(n=3).asks] == [{"n": 3}] and [ask.options for ask in decoded().asks] == [{}]


@pytest.mark.req("PIC-09")
def test_what_programs_send_beside_openais_own_fields_is_used_in_json_and_in_forms() -> None:
    form_of = {"steps": b"3", "seed": b"4", "guidance": b"2.5", "negative_prompt": b"17 cats", "strength": b"0.5"}
    parts = [(f'name="{name}"', value) for name, value in {"model": b"m", "prompt": b"p", **form_of}.items()]
    fields = {"steps": 3, "seed": 4, "guidance": 2.5, "negative_prompt": "17 cats", "strength": 0.5}
    for request in (decoded(**fields), edited(**fields), of_form(*parts, ('name="image"; filename="a.png"', b"x"))):
        assert isinstance(request.ask.prompt, Picture) and (request.ask.prompt.steps, request.ask.warnings) == (3, ())
        expected = {"seed": 4, "guidance": 2.5, "negative_prompt": "17 cats", "strength": 0.5}
        assert dict(request.ask.options) == expected
    assert decoded(guidance=3, options={"guidance": 2, "negative_prompt": "x"}).ask.options == {
        "guidance": 3,
        "negative_prompt": "x",
    }


@pytest.mark.req("PIC-09")
@pytest.mark.parametrize(
    "fields", [{"guidance": 101}, {"guidance": "much"}, {"strength": 2}, {"negative_prompt": 5}, {"steps": 0}, {"steps": 1001}]
)
def test_what_programs_send_beside_is_refused_by_its_name_when_it_is_none(fields: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as refused:
        decoded(**fields)
    assert refused.value.param == next(iter(fields))


@pytest.mark.req("IMG-02")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x--",
        form(('name="a"', b"1"))[:-6],
        form(("", b"1")),
        b"--" + BOUNDARY.encode() + b"\r\nrest",
        form(*[('name="a"', b"")] * 101),
    ],
)
def test_a_broken_form_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(RequestError):
        parse_form(f"multipart/form-data; boundary={BOUNDARY}", body)
    with pytest.raises(RequestError, match="boundary"):
        parse_form("multipart/form-data", body)


@pytest.mark.req("IMG-02")
@given(st.lists(st.binary(max_size=40).filter(lambda data: BOUNDARY.encode() not in data), min_size=1, max_size=5))
def test_whatever_a_file_holds_comes_through(files: list[bytes]) -> None:
    body = form(*((f'name="f{number}"; filename="x"', data) for number, data in enumerate(files)))
    parts = parse_form(f'multipart/form-data; boundary="{BOUNDARY}"', body)
    assert parts == [FormPart(f"f{number}", data, is_file=True) for number, data in enumerate(files)]


@pytest.mark.req("IMG-01")
def test_pictures_come_as_base64_with_what_they_cost() -> None:
    answer = whole(decoded(), [folded(DRAWN)])
    assert answer["data"] == [{"b64_json": base64.b64encode(b"png").decode()}]
    assert (answer["usage"]["input_tokens"], answer["output_format"]) == (3, "png")


@pytest.mark.req("IMG-01", "IMG-02")
def test_a_stream_tells_of_each_picture_when_it_is_finished() -> None:
    (event,) = data_of(sent(PictureStream(decoded()), DRAWN))
    assert (event["type"], event["b64_json"]) == ("image_generation.completed", base64.b64encode(b"png").decode())
    stream = PictureStream(edited())
    (done, error) = data_of(b"".join(stream.feed((0, each)) for each in DRAWN) + stream.fail(EngineDied("it died")))
    assert (done["type"], error["error"]["message"]) == ("image_edit.completed", "it died")
