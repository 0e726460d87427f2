"""`serow key`, and commands that send a key."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serow.cli.main import main
from serow.keys import KeyFile, Scope
from tests.support.server import running_server

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command whose keys are in a directory of the test's own: exit status, stdout, stderr."""
    monkeypatch.setenv("SEROW_KEY_FILE", str(tmp_path / "keys.json"))

    def run(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(args)
        assert isinstance(caught.value.code, int)
        return caught.value.code, *capsys.readouterr()

    return run


def test_a_new_key_goes_to_stdout_alone_and_is_listed_without_itself(run: Run) -> None:
    code, secret, err = run("key", "create", "laptop")
    assert (code, secret[:6], secret.count("\n")) == (0, "serow_", 1)
    assert "SEROW_API_KEY" in err
    header, row = run("key", "list")[1].splitlines()
    assert header.split() == ["NAME", "SCOPES", "CREATED", "SHA-256"]
    assert row.startswith("laptop    infer, manage") and secret.strip() not in row


@pytest.mark.parametrize(
    ("options", "scopes"),
    [((), tuple(Scope)), (("--scope", "infer"), (Scope.INFER,)), (("--scope", "manage", "--scope", "infer"), tuple(Scope))],
)
def test_a_key_has_the_scopes_that_are_named(run: Run, tmp_path: Path, options: tuple[str, ...], scopes: object) -> None:
    run("key", "create", "laptop", *options)
    assert [key.scopes for key in KeyFile(tmp_path / "keys.json").read()] == [scopes]


def test_revoking_the_last_key_says_that_nobody_comes_in(run: Run) -> None:
    run("key", "create", "laptop")
    run("key", "create", "phone")
    assert run("key", "revoke", "laptop") == (0, "revoked 'laptop'\n", "")
    code, out, err = run("key", "revoke", "phone")
    assert (code, out) == (0, "revoked 'phone'\n") and "lets nobody in" in err


@pytest.mark.parametrize(
    ("args", "error"),
    [(("revoke", "phone"), 'there is no key "phone"'), (("create", "a b"), '"a b" is no name for a key')],
)
def test_a_mistake_is_one_line_with_a_hint(run: Run, args: tuple[str, ...], error: str) -> None:
    code, out, err = run("key", *args)
    assert (code, out, err.splitlines()[0]) == (1, "", f"error: {error}")
    assert err.splitlines()[1].startswith("hint: ")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server without models that asks for the key "sesame"."""
    with running_server(tmp_path_factory.mktemp("guarded"), SEROW_API_KEYS="sesame") as url:
        yield url


@pytest.mark.parametrize("variable", ["SEROW_API_KEY", "OLLAMA_API_KEY"])
def test_commands_send_the_key(run: Run, guarded: str, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv("SEROW_HOST", guarded)
    monkeypatch.setenv(variable, "sesame")
    assert run("list")[0] == 0


def test_without_a_key_commands_say_where_to_put_one(run: Run, guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEROW_HOST", guarded)
    code, out, err = run("list")
    assert (code, out) == (1, "") and err.startswith("error: unauthorized: an API key is needed")
    assert "hint: set SEROW_API_KEY" in err


def test_a_public_address_without_a_key_is_refused_by_serve(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEROW_HOST", "0.0.0.0:0")
    code, out, err = run("serve")
    assert (code, out) == (1, "") and err.startswith("error: without a key everybody who can reach 0.0.0.0")
    assert "hint: make one: serow key create NAME" in err
