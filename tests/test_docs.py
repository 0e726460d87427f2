"""What the pages say is what there is: their links, the sentences that they quote."""

import re
from pathlib import Path

import pytest

from serow.server.routes import OPERATIONS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
CODE = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
PLAIN = re.sub(r"[{][^{}]*[}]", "…", CODE.replace("\\'", "'"))  # with what is filled in left open


def anchors(page: Path) -> set[str]:
    """The names of its headings, as GitHub makes them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_installs_what_is_called_so_on_an_index(page: Path) -> None:
    assert not re.search(r"install (?:-\S+ )*[\"']?serow\b", page.read_text())


def test_what_troubleshooting_quotes_is_said_by_the_code() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    first = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| ")]
    for quoted in re.findall(r"`([^`]+)`", "\n".join(first)):
        for part in re.split(r"…|\([XY]\)|10 s", quoted):
            assert part.strip(' "') in PLAIN or part.strip() in PLAIN, quoted


def test_the_readme_names_routes_that_are_there() -> None:
    paths = {operation.path for operation in OPERATIONS}
    named = set(re.findall(r"(?:GET|POST|DELETE|`) ?(/[\w/.]*)`", (ROOT / "README.md").read_text()))
    assert named
    assert named <= paths


def test_the_page_of_security_names_what_is_kept_of_what_people_type() -> None:
    assert "`history`" in (ROOT / "docs" / "security.md").read_text()
