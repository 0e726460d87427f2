"""System messages that come later than first, where a template has no place for them: they go into a user's turn (ANT-03)."""

from collections.abc import Sequence
from dataclasses import replace

from serow.prompt.turns import Turn

_BETWEEN = "\n\n"


def num_first(turns: Sequence[Turn]) -> int:
    """How many turns the conversation begins with that are the system's: these stay as they are."""
    return next((number for number, turn in enumerate(turns) if turn.role != "system"), len(turns))


def has_later(turns: Sequence[Turn]) -> bool:
    """Whether the system speaks again behind others."""
    return any(turn.role == "system" for turn in turns[num_first(turns) :])


def is_placed(text: str, turns: Sequence[Turn]) -> bool:
    """Whether each later system message stands in a rendered text, behind what was said before it."""
    place = 0
    for turn in turns[num_first(turns) :]:
        found = text.find(turn.content.strip(), place)
        if found < 0 and turn.role == "system":
            return False
        place = max(place, found)
    return True


def folded(turns: Sequence[Turn]) -> list[Turn]:
    """Each later system message as the user's, and what the user then says in a row as one turn."""
    first = num_first(turns)
    found = list(turns[:first])
    for turn in turns[first:]:
        said = replace(turn, role="user") if turn.role == "system" else turn
        if said.role == "user" and len(found) > first and found[-1].role == "user":
            found[-1] = _joined(found[-1], said)
        else:
            found.append(said)
    return found


def _joined(first: Turn, second: Turn) -> Turn:
    content = _BETWEEN.join(each for each in (first.content, second.content) if each)
    return replace(first, content=content, pictures=(*first.pictures, *second.pictures))
