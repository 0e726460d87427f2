"""The table of sdists, and the edits that are made to them."""

from pathlib import Path

import pytest

from serow.engines.build.edit import BuildError, Edit
from serow.engines.build.sources import RECIPES, Backend, Recipe, find
from serow.engines.kinds import KINDS, WHEEL
from serow.errors import NotFound, RequestError

TEXT = "one\ntwo\ntwo\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Sources of one file."""
    (tmp_path / "a.cpp").write_text(TEXT)
    return tmp_path


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (Edit("a.cpp", "one\n", ""), "two\ntwo\n"),
        (Edit("a.cpp", "two", "2", count=2), "one\n2\n2\n"),
        (Edit("a.cpp", "one\ntwo", "ein\nzwei"), "ein\nzwei\ntwo\n"),
    ],
)
def test_an_edit_changes_what_it_fits(root: Path, edit: Edit, expected: str) -> None:
    edit.apply(root)
    assert (root / "a.cpp").read_text() == expected


@pytest.mark.parametrize(
    ("edit", "times"),
    [
        (Edit("a.cpp", "three", ""), 0),
        (Edit("a.cpp", "two", ""), 2),
        (Edit("a.cpp", "one", "", 2), 1),
        (Edit("b.cpp", "one", ""), 0),
    ],
)
def test_an_edit_that_does_not_fit_exactly_is_an_error_and_changes_nothing(root: Path, edit: Edit, times: int) -> None:
    with pytest.raises(BuildError, match=rf"^{edit.path} is not as it should be: an edit fits it {times} times"):
        edit.apply(root)
    assert (root / "a.cpp").read_text() == TEXT


def test_every_engine_but_the_wheel_can_be_built() -> None:
    assert RECIPES.keys() == KINDS.keys() - {WHEEL.name}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_recipe_is_pinned_and_knows_every_backend(recipe: Recipe) -> None:
    assert len(recipe.sdist.sha256) == 64
    assert recipe.backends.keys() == set(Backend)
    assert recipe.sdist.size < recipe.disk


def test_a_name_that_is_none_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(NotFound, match=r"^there is no engine 'nope'$"):
        find("nope")
    with pytest.raises(RequestError, match=r"^the wheel is not built") as caught:
        find("wheel")
    assert caught.value.hint == "engines: llama.cpp, ik"
