"""An answer of a model that draws: how far it is, previews where the terminal shows them, the pictures as files."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from serow.cli import inline, picture, progress
from serow.cli.answer import waiting
from serow.cli.attachments import AttachmentError
from serow.cli.terminal import data, say

SETTINGS = {  # what /set and the options of `run` call the options of a picture
    "width": "width",
    "height": "height",
    "steps": "steps",
    "seed": "seed",
    "negative": "negative_prompt",
    "guidance": "guidance",
    "scheduler": "scheduler",
    "strength": "strength",
    "preview": "preview",
    "n": "n",
}
_ALONE = "there is a picture and no word of what to draw: write it behind the path, ./in.png a star at night"


def check(prompt: str, *, has_pictures: bool) -> None:
    """Raise AttachmentError for a picture without a description."""
    if has_pictures and not prompt.strip():
        raise AttachmentError(_ALONE)


def show(records: Iterable[Any], prompt: str, output: Path | None) -> Any:
    """Show a drawing until it is there, save its pictures and print their paths; returns the last record."""
    last = _followed(records)
    if last is None or not last.image:
        return last
    for number, image in enumerate(last.images or [last.image]):
        path = picture.save(image, prompt, output)
        inline.show(path.read_bytes())
        data(str(path))
        if last.seed is not None:
            say(f"seed {last.seed + number}", err=True)
    return last


def _followed(records: Iterable[Any]) -> Any:
    """A spinner while nothing is heard, then a bar; a preview stands between two bars."""
    last = None
    with waiting() as stop_waiting, ExitStack() as bars:
        shown: progress.Bar | None = None
        for last in records:
            if not last.total:
                continue
            if last.preview and inline.shows_previews():
                bars.close()
                shown = None
                inline.show(picture.decode(last.preview))
            if shown is None:
                stop_waiting()
                shown = bars.enter_context(progress.bar(is_bytes=False))
            shown.update(last.status or "drawing", last.completed, last.total)
    return last
