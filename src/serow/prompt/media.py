"""Pictures in a prompt: `[img-N]` where they stand, the engine's marker in its place (GEN-13, CHAT-11)."""

import re
from collections.abc import Sequence

_PLACE = re.compile(r"\[img-([0-9]{1,4})\]")


def with_image_markers(prompt: str, num_images: int, first: int = 0) -> str:
    """Put `[img-N]` where the prompt says `[img]`, else before it, for every picture that it does not place itself.

    N counts from `first`.
    """
    before = ""
    for mark in (f"[img-{n}]" for n in range(first, first + num_images) if f"[img-{n}]" not in prompt):
        if "[img]" in prompt:
            prompt = prompt.replace("[img]", mark, 1)
        else:
            before += mark
    return before + prompt


def with_media(text: str, images: Sequence[bytes], marker: str) -> tuple[str, list[bytes]]:
    """The engine's marker where `[img-N]` stands first, and the pictures in that order; a marker of the user's is taken out."""
    waiting, placed = dict(enumerate(images)), []

    def place(match: re.Match[str]) -> str:
        image = waiting.pop(int(match[1]), None)
        if image is None:
            return match[0]
        placed.append(image)
        return marker

    return _PLACE.sub(place, text.replace(marker, "")), placed
