"""The document, the routes and the docs say the same."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from serow.server.app import create_app
from serow.server.fields import FIELDS
from serow.server.openapi import document
from serow.server.routes import OPERATIONS
from serow.settings import Settings
from tests.schemas import validator

API_PAGE = Path(__file__).parent.parent.parent / "docs" / "api.md"
ROW = re.compile(r"\| (?P<method>[A-Z]+) \| `(?P<path>/\S*)` \| (?P<summary>.+) \|")
OPTIONS_PAGE = API_PAGE.with_name("options.md")
PAGE_OF_THE_SERVER = {"MarkdownRequest", "Now", "Failure", "Memory"}  # what the web page alone speaks
DOCUMENT = document(OPERATIONS)
SCHEMAS = DOCUMENT["components"]["schemas"]


def routes(tmp_path: Path) -> set[tuple[str, str]]:
    """Method and path of every route; Starlette's own HEAD beside GET left out."""
    found = set()
    for route in create_app(Settings(models=tmp_path)).routes:
        methods: set[str] = route.methods or {"GET"}  # type: ignore[attr-defined]
        found |= {(method, route.path.replace(":path", "")) for method in methods - ({"HEAD"} if "GET" in methods else set())}  # type: ignore[attr-defined]
    return found


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from ([value["$ref"]] if "$ref" in value else [])
        value = list(value.values())
    for item in value if isinstance(value, list) else []:
        yield from references(item)


def test_the_document_has_every_route_and_no_other(tmp_path: Path) -> None:
    assert {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item} == routes(tmp_path)


def test_the_page_of_the_api_lists_the_same_operations() -> None:
    rows = [match.groups() for match in map(ROW.fullmatch, API_PAGE.read_text().splitlines()) if match]
    assert rows == [(each.method, each.path, each.summary) for each in OPERATIONS]


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_is_one(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])


@pytest.mark.parametrize("name", sorted(SCHEMAS.keys() - PAGE_OF_THE_SERVER))
def test_every_field_is_described(name: str) -> None:
    properties = SCHEMAS[name].get("properties", {})
    assert [each for each, declared in properties.items() if not declared.get("description")] == [], "see server/fields.py"


def test_every_description_describes_a_field() -> None:
    there = {each for schema in SCHEMAS.values() for each in schema.get("properties", {})}
    assert {each.rpartition(".")[2] for each in FIELDS} <= there


def test_the_page_about_options_has_the_fields_of_generate() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", OPTIONS_PAGE.read_text().partition("## Fields")[2], re.MULTILINE)
    assert rows == [(name, FIELDS[name]) for name in SCHEMAS["GenerateRequest"]["properties"]]


def test_every_reference_leads_somewhere() -> None:
    assert {reference.removeprefix("#/components/schemas/") for reference in references(DOCUMENT)} <= SCHEMAS.keys()


@pytest.mark.parametrize(
    ("kind", "body", "is_valid"),
    [
        ("GenerateRequest", {"model": "m", "keep_alive": "5m", "think": "high", "format": {"type": "object"}}, True),
        ("GenerateRequest", {"keep_alive": -1, "prompt": None, "options": {"stop": "x", "num_ctx": None}}, True),
        ("GenerateRequest", {"options": {"temperature": "hot"}}, False),
        ("GenerateRequest", {"images": "aGk="}, False),
        ("CreateRequest", {"model": "a", "from": "b", "license": ["MIT"]}, True),
    ],
)
def test_a_body_is_valid_as_a_client_sends_it(kind: str, body: dict[str, Any], is_valid: bool) -> None:
    assert validator(DOCUMENT, kind).is_valid(body) is is_valid


def test_answers_are_what_the_document_says(server: str) -> None:
    generate = {"model": "zoo-think", "prompt": "hi", "stream": False, "logprobs": True, "options": {"num_predict": 3}}
    with httpx.Client(base_url=server, timeout=60) as client:
        said = client.get("/openapi.json").json()
        for kind, answer in (
            ("GenerateRecord", client.post("/api/generate", json=generate)),
            ("Tags", client.get("/api/tags")),
            ("Ps", client.get("/api/ps")),
            ("ShowResponse", client.post("/api/show", json={"model": "zoo-think", "verbose": True})),
            ("Version", client.get("/api/version")),
            ("Error", client.post("/api/show", json={"model": "nobody"})),
        ):
            validator(said, kind).validate(answer.json())
