"""Where the commands look for the server."""

import ollama
import pytest

from serow.cli.server import server_error, url


@pytest.mark.parametrize(
    "environ, expected",
    [
        ({}, "http://127.0.0.1:11434"),
        ({"OLLAMA_HOST": "10.0.0.1"}, "http://10.0.0.1:11434"),
        ({"OLLAMA_HOST": "10.0.0.1", "SEROW_HOST": "10.0.0.2:80"}, "http://10.0.0.2:80"),
        ({"SEROW_HOST": "0.0.0.0:8000"}, "http://127.0.0.1:8000"),
        ({"SEROW_HOST": "[::]:8000"}, "http://[::1]:8000"),
        ({"SEROW_HOST": "https://models.example"}, "https://models.example:443"),
        ({"SEROW_HOST": "http://models.example"}, "http://models.example:80"),
    ],
)
def test_the_address_is_read_as_the_server_reads_it(environ: dict[str, str], expected: str) -> None:
    assert url(environ) == expected


def test_a_registry_that_is_not_found_comes_with_what_is_there_without_it() -> None:
    text = 'pull model manifest: Get "https://registry.ollama.ai/v2/library/m/manifests/latest": no such host'
    error = server_error(ollama.ResponseError(text))
    assert str(error) == text
    assert error.hint.startswith("is this machine online?") and "smollm2:135m" in error.hint


def test_a_push_that_finds_no_registry_says_how_a_name_names_one() -> None:
    text = 'Head "https://registry.ollama.ai/v2/library/m/blobs/sha256:0": no such host'
    assert server_error(ollama.ResponseError(text)).hint.endswith("HOST/NAMESPACE/MODEL")
