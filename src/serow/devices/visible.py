"""Which cards the user lets programs see, by the variables that drivers themselves read."""

from collections.abc import Mapping, Sequence

from serow.devices.device import Card, Vendor

_VARIABLES: dict[Vendor, tuple[str, ...]] = {
    "nvidia": ("CUDA_VISIBLE_DEVICES",),
    "amd": ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
}


def hidden_by(vendor: Vendor, environ: Mapping[str, str]) -> str:
    """The variable that hides cards of a vendor, "" where none is set."""
    return next((name for name in _VARIABLES.get(vendor, ()) if name in environ), "")


def visible(cards: Sequence[Card], environ: Mapping[str, str]) -> list[Card]:
    """The cards of one vendor that programs see, in the order in which they see them."""
    if not cards:
        return []
    found = list(cards)
    for name in _VARIABLES.get(cards[0].vendor, ()):
        if name in environ:
            found = _selected(found, environ[name])
    return found


def _selected(cards: Sequence[Card], text: str) -> list[Card]:
    """As CUDA reads its list: it ends before the first entry that names no card, or one twice."""
    found: list[Card] = []
    for entry in text.split(","):
        card = _find(cards, entry.strip())
        if card is None or card in found:
            break
        found.append(card)
    return found


def _find(cards: Sequence[Card], entry: str) -> Card | None:
    """By its number, or by the beginning of its UUID."""
    if entry.isascii() and entry.isdigit():
        return next((card for number, card in enumerate(cards) if number == int(entry)), None)
    matching = [card for card in cards if entry and card.uuid.lower().startswith(entry.lower())]
    return matching[0] if len(matching) == 1 else None
