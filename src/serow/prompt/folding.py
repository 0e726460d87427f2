"""System messages that come later than first, where a template has no place for them: they go into a user's turn (ANT-03)."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from serow.prompt.turns import Turn

_BETWEEN = "\n\n"
_MOST_MISSING = 100  # messages that a text does not show as they are: for each all of it is looked through


def num_first(turns: Sequence[Turn]) -> int:
    """How many turns the conversation begins with that are the system's: these stay as they are."""
    return next((number for number, turn in enumerate(turns) if turn.role != "system"), len(turns))


def has_later(turns: Sequence[Turn]) -> bool:
    """Whether the system speaks again behind others."""
    return any(turn.role == "system" for turn in turns[num_first(turns) :])


def is_placed(text: str, turns: Sequence[Turn]) -> bool:
    """Whether each later system message stands in a rendered text, behind what was said before it."""
    place = num_missing = 0
    for turn in turns[num_first(turns) :]:
        found = text.find(turn.content.strip(), place)
        num_missing += found < 0
        if (found < 0 and turn.role == "system") or num_missing > _MOST_MISSING:
            return False
        place = max(place, found)
    return True


def folded(turns: Sequence[Turn]) -> list[Turn]:
    """Each later system message as the user's, and what the user then says in a row as one turn."""
    first = num_first(turns)
    later = (replace(turn, role="user") if turn.role == "system" else turn for turn in turns[first:])
    found = list(turns[:first])
    for role, group in groupby(later, lambda turn: turn.role):
        same = list(group)
        found += [_joined(same)] if role == "user" and len(same) > 1 else same
    return found


def _joined(turns: Sequence[Turn]) -> Turn:
    content = _BETWEEN.join(turn.content for turn in turns if turn.content)
    return replace(turns[0], content=content, pictures=tuple(picture for turn in turns for picture in turn.pictures))
