"""The library's exchanges recorded from the peer, replayed in order against real registries and a bad one.

The ports are fixed, since names of models hold them. Steps that only others need are sent with the rest.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serow.store.store import Store
from tests.compat.replay import OUR_FIELDS, Case
from tests.compat.replay import differences as compared
from tests.conftest import create
from tests.support.registry import HERE, registries
from tests.support.server import running_server

EXCHANGES = Path(__file__).parents[1] / "golden" / "exchanges-library.jsonl"
HEX = re.compile(r"sha256[:-][0-9a-fA-F]{64}|\b[0-9a-f]{64}\b|(?<=(?:pulling|pushing) )[0-9a-f]{12}\b")
CASES: list[Case] = [json.loads(line) for line in EXCHANGES.read_text().splitlines()]


class Peers:
    """The server, the registries, and the files that cases send."""

    def __init__(self, server: str, bases: dict[str, str], files: Path) -> None:
        self.server = server
        self.bases = bases
        self.files = files

    def ask(self, case: Case) -> httpx.Response:
        """Send a case's request."""
        base = self.bases[case["base"]] if "base" in case else self.server
        content = (self.files / case["file"]).read_bytes() if "file" in case else None
        if "raw" in case:
            content = case["raw"].encode()
        if "body" in case:
            content = json.dumps(case["body"]).encode()
        headers = {"Content-Type": "application/json"} if "body" in case else {}
        headers |= case.get("headers", {})
        return httpx.request(case["method"], base + case["path"], content=content, headers=headers, timeout=300)


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory, zoo: Path) -> Iterator[Peers]:
    root = tmp_path_factory.mktemp("library")
    subprocess.run([sys.executable, HERE / "make_files.py", root / "files", zoo], check=True, stdout=subprocess.DEVNULL)
    store = Store(root / "store")
    create(store, "zoo-think", zoo / "zoo-think.gguf")
    create(store, "zoo-vision", zoo / "zoo-vision.gguf", zoo / "zoo-vision-mmproj.gguf")
    (root / "home").mkdir()
    with (
        registries(root, 5000, 5001, 5002) as bases,
        running_server(store.root, SEROW_OFFLINE="0", HOME=str(root / "home")) as url,
    ):
        yield Peers(url, bases, root / "files")


def plain(lines: list[Any]) -> list[Any]:
    """Progress with one record for each layer, where its first one was, and digests by number."""
    out: list[Any] = []
    layers: dict[tuple[str, str], int] = {}
    seen: dict[str, int] = {}
    for line in ({name: line[name] for name in line if name not in OUR_FIELDS} for line in lines):
        if "digest" in line:
            key = line["status"], line["digest"]
            is_whole = line.get("completed", 0) == line.get("total", 0)
            line = {**{name: line[name] for name in line if name not in ("total", "completed")}, "whole": is_whole}
            if key in layers:
                out[layers[key]] = line
                continue
            layers[key] = len(out)
        out.append(line)

    def number(match: re.Match[str]) -> str:
        digits = match[0].removeprefix("sha256")[-64:].lstrip(":-")[:12].lower()
        return f"<digest {seen.setdefault(digits, len(seen) + 1)}>"

    return list(json.loads(HEX.sub(number, json.dumps(out))))


def differences(case: Case, answer: httpx.Response) -> list[str]:
    """What is not as recorded, a line each."""
    if case["method"] == "HEAD":
        status = (case["ours"] if "ours" in case else case["response"])["status"]
        return [] if answer.status_code == status else [f"status {answer.status_code}, expected {status}"]
    if not (case.get("plain") and case["compare"] == "exact" and "lines" in case["response"]):
        found = compared(case, answer)
        return [each for each in found if not (case.get("more") and each.endswith("not in the peer's answer"))]
    assert answer.status_code == case["response"]["status"], answer.text
    want, got = plain(case["response"]["lines"]), plain([json.loads(line) for line in answer.text.splitlines()])
    return [] if want == got else [f"{want}, got {got}"]


@pytest.mark.timeout(900)
@pytest.mark.req("LIB-05", "LIB-18", "LIB-19", "LIB-20", "LIB-28", "LIB-30", "LIB-35")
def test_the_exchanges_are_as_recorded(peers: Peers) -> None:
    found = {}
    for case in CASES:
        answer = peers.ask(case)
        if case["compare"] not in ("setup", "read") and (bad := differences(case, answer)):
            found[case["id"]] = bad
    assert found == {}
