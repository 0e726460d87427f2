"""Sizes for people."""

_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"))


def human_bytes(size: int) -> str:
    """A size in decimal units: 98 MB, 1.5 GB."""
    for unit, name in _UNITS:
        if size >= unit:
            value = size / unit
            return f"{value:.1f} {name}" if value < 10 and not value.is_integer() else f"{int(value)} {name}"
    return f"{size} B"


def binary_size(size: int) -> str:
    """A size in binary units: "7.3 GiB"."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} B"
