"""What engines list and what the system tells, as one list of devices: the same card seen twice is one device.

Engines tell little of a card. Where they tell its PCI address or UUID, that decides; else the kind of device says whose card
it is, and the number in its name which one of those that are visible (engines count them in the order of the bus: we start
them with CUDA_DEVICE_ORDER=PCI_BUS_ID); else a card of about the same name or size. What no card is found for is a device too.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from serow.devices.device import Card, Device, Kind, Listed, Listing, Vendor, kind_of, vendor_of
from serow.devices.visible import hidden_by, visible

_ALIKE = 0.1  # part of the memory by which two programs may tell the size of one card differently
_KIND_OF: dict[Vendor, Kind] = {"nvidia": "cuda", "amd": "rocm", "apple": "metal"}
_LEAST, _MOST = 1 << 20, 1 << 45  # bytes that a card may claim to have
_THERE = ("wheel", "diffusers", "vllm")  # what nobody builds
_HUNG = "its driver does not answer"
_EMULATED = re.compile("llvmpipe|lavapipe|softpipe|swiftshader|basic render", re.IGNORECASE)  # as their drivers are called
_EMULATES = "the CPU, which a driver gives out as a card: used only where num_gpu or main_gpu asks for it"
_NUMBER = re.compile(r"\d{1,3}$")
_RANK: tuple[Kind, ...] = ("cuda", "rocm", "metal", "sycl", "vulkan", "rpc", "gpu")


@dataclass
class _Found:
    """A device while it is put together. Where no driver tells what is free, the first engine that lists it does."""

    card: Card | None
    seen: list[tuple[str, Listed]] = field(default_factory=list)


def match(
    cards: Sequence[Card], listings: Sequence[Listing], environ: Mapping[str, str], *, is_hung: bool = False
) -> tuple[Device, ...]:
    """Every device there is, those that an engine uses first; each is there once. `is_hung`: a driver did not answer."""
    found = [_Found(card) for card in cards]
    for listing in listings:
        taken: set[tuple[Kind, int]] = set()  # an engine names a card once for each kind
        for listed in listing.devices:
            kind = kind_of(listed.name)
            home = _home(listed, found, [each for each in found if (kind, id(each)) not in taken], environ)
            taken.add((kind, id(home)))
            home.seen.append((listing.engine, listed))
    devices = [_device(each, _HUNG if is_hung else _why_unused(each.card, listings, environ)) for each in found]
    return tuple(sorted(devices, key=lambda each: (not each.handles, each.is_emulated, _RANK.index(each.kind))))


def _home(listed: Listed, found: list[_Found], free: Sequence[_Found], environ: Mapping[str, str]) -> _Found:
    """What an engine's device belongs to, of those that are `free`; a new one where nothing fits."""
    for each in free:
        if _is_place(listed.place, each):
            return each
    card = _by_number(listed, [each.card for each in found if each.card], environ)
    near = [each for each in free if (card is not None and each.card is card) or (card is None and _is_alike(listed, each))]
    if near:
        return near[0]
    found.append(_Found(None))
    return found[-1]


def _is_place(place: str, found: _Found) -> bool:
    if not place:
        return False
    names = (found.card.pci, found.card.uuid) if found.card else [other.place for _, other in found.seen]
    return place.lower() in map(str.lower, names)


def _by_number(listed: Listed, cards: Iterable[Card], environ: Mapping[str, str]) -> Card | None:
    """The card that the number in a device's name means, where its kind says whose it is."""
    vendor, number = vendor_of(kind_of(listed.name)), _NUMBER.search(listed.name)
    own = visible(sorted((card for card in cards if card.vendor == vendor), key=lambda card: card.index), environ)
    return own[int(number[0])] if vendor and number and int(number[0]) < len(own) else None


def _is_alike(listed: Listed, found: _Found) -> bool:
    """Whether it may well be this one, seen by another engine or driver; never one of another vendor's own kind."""
    kind = kind_of(listed.name)
    if kind == "rpc":
        return any(other.name == listed.name and other.description == listed.description for _, other in found.seen)
    card = found.card
    if card is None:
        return any(_is_same(listed, other) for _, other in found.seen)
    if vendor_of(kind) not in ("", card.vendor):
        return False
    is_named = bool(card.name) and (card.name in listed.description or listed.description in card.name)
    return is_named and (not card.total or abs(card.total - listed.total) <= _ALIKE * card.total)


def _is_same(one: Listed, other: Listed) -> bool:
    return one.description == other.description and abs(one.total - other.total) <= _ALIKE * max(one.total, other.total)


def _device(found: _Found, reason: str) -> Device:
    """The card as its driver tells it; what that does not tell, or can't be true, as an engine does."""
    kinds = [kind_of(listed.name) for _, listed in found.seen]
    first, told = found.seen[0] if found.seen else ("", Listed("", "", 0, 0))
    card = found.card or Card(vendor="")
    is_emulated = any(_EMULATED.search(listed.description) for _, listed in found.seen)
    sizes = [("", card.total, card.free), *((engine, listed.total, listed.free) for engine, listed in found.seen)]
    true = [each for each in sizes if _LEAST <= each[1] <= _MOST]
    teller, total, free = true[0] if true else (first, 0, 0)
    if kinds:
        reason = _EMULATES if is_emulated else "" if true else _no_size(max(size for _, size, _ in sizes))
    return Device(
        id=card.id if found.card else told.place or f"{told.name} {told.description}",
        name=card.name or told.description or "GPU",
        kind=min(kinds, key=_RANK.index) if kinds else _KIND_OF.get(card.vendor, "gpu"),
        uuid=card.uuid,
        pci=card.pci,
        driver=card.driver,
        total=total,
        free=max(0, min(free, total)),
        is_shared=card.is_shared or is_emulated,
        is_emulated=is_emulated,
        handles=dict(reversed([(engine, listed.name) for engine, listed in found.seen])),  # the first that an engine names
        used=card.used,
        measured_by=teller,
        reason=reason,
    )


def _no_size(told: int) -> str:
    """In words: why nothing is planned on a device whose size nobody tells as it can be."""
    return f"is told to have {told} bytes of memory, which no card has: nothing is planned there; look at its driver"


def _why_unused(card: Card | None, listings: Sequence[Listing], environ: Mapping[str, str]) -> str:
    """In words: what keeps every engine from this card, and what to do."""
    if card is None:
        return ""
    if not card.driver:
        return "its driver is not loaded: install it, or start the server where it can be reached"
    if variable := hidden_by(card.vendor, environ):
        return f"hidden: {variable}={environ[variable]}"
    if faults := [listing.fault for listing in listings if listing.fault]:
        return faults[0]
    built = list(dict.fromkeys(listing.engine for listing in listings if listing.engine not in _THERE))
    if not built:
        return "no engine for it is built: serow engine build llama.cpp"
    return f"{' and '.join(built)} can't use it: built anew where its toolchain is, it can: serow engine build {built[0]}"
