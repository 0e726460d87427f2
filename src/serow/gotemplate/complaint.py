"""What goes wrong in a template, in Go's words."""

_LONGEST = 300  # characters


def shorten(text: str) -> str:
    """A text as an error shows it: templates and their data may be long."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


class Complaint(Exception):
    """Why a function failed, in Go's words; the evaluator adds where."""
