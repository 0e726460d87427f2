"""What a user is told once: that another engine would be faster here."""

from serow import settings
from serow.cli import state
from serow.cli.terminal import is_terminal, tell
from serow.errors import SerowError

_MARK = "engine-advised"


def advise() -> None:
    """Tell in one line where people read it, and keep that it was told; where that can't be kept, say nothing."""
    if not (is_terminal() and is_terminal(err=True)) or _was_told():
        return
    from serow.engines.advice import speedup

    if (faster := speedup(settings.load())) and _is_first():
        tell("note", f"the engine ik is about {faster:g} times as fast here: serow engine build ik")


def _was_told() -> bool:
    try:
        return (state.directory() / _MARK).exists()
    except (OSError, SerowError):
        return True


def _is_first() -> bool:
    try:
        (state.directory() / _MARK).touch(mode=0o600, exist_ok=False)
    except (OSError, SerowError):  # told by another one just now, or a disk that takes nothing
        return False
    return True
