"""How much to think, by OpenAI's words (OAI-14)."""

from serow.wire.fields import Fields

EFFORTS: dict[str, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
    "xhigh": "max",
    "ultra": "max",
}


def think_of(fields: Fields) -> bool | str | None:
    """`reasoning.effort`, else `reasoning_effort`; None where neither is there: the model's own default."""
    inner = fields.member("reasoning")
    outer = _effort(fields, "reasoning_effort")
    found = None if inner is None else _effort(inner, "effort")
    return outer if found is None else found


def _effort(fields: Fields, name: str) -> bool | str | None:
    effort = fields.text(name)
    if not effort:
        return None
    if effort.lower() not in EFFORTS:
        choices = ", ".join(f'"{each}"' for each in EFFORTS)
        raise fields.fault(name, f'invalid reasoning value: "{effort}" (must be {choices})')
    return EFFORTS[effort.lower()]
