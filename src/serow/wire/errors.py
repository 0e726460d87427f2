"""How each API tells an error: the shape by the path that was asked for, the field by the kind of error."""

from typing import Any, Literal

from serow.errors import FormatError, InvalidModelName, ModelNotFound, PictureError, PromptTooLong, SerowError
from serow.wire import anthropic, openai_answer

Shape = Literal["ollama", "openai", "anthropic"]

_FIELDS: dict[str, dict[type[SerowError], str]] = {  # which field of a route an error of the flow is about
    "/v1/chat/completions": {PromptTooLong: "messages", FormatError: "response_format", PictureError: "messages"},
    "/v1/completions": {PromptTooLong: "prompt"},
    "/v1/embeddings": {PromptTooLong: "input"},
    "/v1/responses": {PromptTooLong: "input", FormatError: "text.format", PictureError: "input"},
}


def shape_of(path: str, *, has_anthropic_version: bool = False) -> Shape:
    """Whose words an error on a path is told in."""
    if has_anthropic_version or path.startswith("/v1/messages"):
        return "anthropic"
    return "openai" if path == "/v1" or path.startswith("/v1/") else "ollama"


def error_body(shape: Shape, path: str, error: SerowError, request_id: str) -> dict[str, Any]:
    """The body of an error."""
    if shape == "anthropic":
        return anthropic.error_body(error, request_id)
    if shape == "openai":
        return openai_answer.error_body(error, field_of(path, error))
    return {"error": str(error)}


def field_of(path: str, error: SerowError) -> str:
    """The field that an error is about which does not say so itself."""
    fields = {**_FIELDS.get(path, {}), ModelNotFound: "model", InvalidModelName: "model"}
    return next((field for kind, field in fields.items() if isinstance(error, kind)), "")
