"""What a 401 asks for: the challenges of WWW-Authenticate (RFC 9110, section 11.6.1)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAM = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+|$|(?=,))")
_LIMIT = 8 << 10  # characters of one header


@dataclass(frozen=True)
class Challenge:
    """One way to say who we are. `scheme` and names of parameters in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse(headers: Iterable[str]) -> list[Challenge]:
    """The challenges in order; what can't be read is left out."""
    found: list[Challenge] = []
    for header in headers:
        at, text = 0, header[:_LIMIT]
        while at < len(text):
            if text[at] in " \t,":
                at += 1
            elif (param := _PARAM.match(text, at)) and found:
                value = re.sub(r"\\(.)", r"\1", param[2]) if param[2] is not None else param[3]
                found[-1].parameters.setdefault(param[1].lower(), value)
                at = param.end()
            elif scheme := _SCHEME.match(text, at):
                found.append(Challenge(scheme[1].lower()))
                at = scheme.end()
            else:
                at += 1
    return found
