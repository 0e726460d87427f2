"""What `llama-server --list-devices` writes, read as it is meant: a line that is none of a device is left out."""

import re

from serow.devices.device import Listed

_LINE = re.compile(r"^\s+([A-Za-z][\w.\[\]:-]{0,63}): (.{0,200}) \((\d{1,20}) MiB, (\d{1,20}) MiB free\)\s*$", re.MULTILINE)
_MOST = 64  # devices
_MIB = 1 << 20


def parse_listing(text: str) -> tuple[Listed, ...]:
    """The devices of `  CUDA0: NVIDIA H100 (81079 MiB, 80559 MiB free)`. What claims more free than there is has all free."""
    found = (
        Listed(name, description.strip(), int(total) * _MIB, min(int(free), int(total)) * _MIB)
        for name, description, total, free in _LINE.findall(text)
    )
    by_name = {each.name: each for each in found}
    return tuple(by_name.values())[:_MOST]
