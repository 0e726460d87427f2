"""The chat template of a model file, as its engine gets it: as it is; guarded; or not at all.

An engine tries a template when it starts, with messages of its own, and does not start with one that it can't parse or that
raises at those. But a prompt may be raw, or made by a TEMPLATE: nobody needs the file's own then. So the engine is started
again, with the template guarded so that it renders only our messages, or, when it can't be parsed, without it.
"""

import re
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

from serow.engines.llamacpp.events import Fault
from serow.errors import MessagesRefused, SerowError, TemplateError

_OURS = "serow_messages"  # holds our messages; where the engine tries the template there is none
# A printed nothing at both ends keeps the engine from trimming the template's own first and last white space.
_GUARD = f"{{% if {_OURS} %}}{{% set messages = {_OURS} %}}{{{{ '' }}}}", "{{ '' }}{% endif %}"
_NONE = "{{ '' }}"
_LONGEST_ARGUMENT = 100_000  # bytes; an executable is told on its command line, where one argument holds 128 KiB
_LONGEST_WORDS = 300  # characters
_FAILED = "chat template parsing error"
_UNPARSED = re.compile(r"common_chat_templates_init: error: (.+)")
_RAISED = re.compile(r"^\s*Error: (?:Jinja Exception: )?(.+)$", re.MULTILINE)
_PREFACE = re.compile(r"^(Unable to generate parser for this template|Automatic parser generation failed)[.:]\s*")
_NO_MEMORY = re.compile("bad_alloc|length_error|out of memory", re.IGNORECASE)


class _Stage(Enum):
    OWN = auto()
    GUARDED = auto()
    NONE = auto()


class ChatTemplate:
    """How one engine is given one template: `fall_back` until it starts, then `body` for each conversation.

    One that is not `is_used` is not given to it at all.
    """

    def __init__(self, source: str, *, is_used: bool = True) -> None:
        self._source = source.removesuffix("\n")  # as the engine reads it
        self._stage = _Stage.OWN if is_used or not source else _Stage.NONE
        self._words = ""  # why it can't be used

    @property
    def override(self) -> str:
        """What the engine is to use in place of the file's template, "" for that itself."""
        before, after = _GUARD
        return {_Stage.OWN: "", _Stage.GUARDED: before + self._source + after, _Stage.NONE: _NONE}[self._stage]

    def fall_back(self, log: str, *, is_greedy: bool = False) -> bool:
        """Whether there is another way to start an engine that ended with this log, which is then `override`.

        One that `is_greedy` took too much memory, and perhaps the template did.
        """
        unparsed = _UNPARSED.search(log)
        may_be_it = unparsed or _FAILED in log or (is_greedy and self._stage is _Stage.OWN)
        if self._stage is _Stage.NONE or not self._source or not may_be_it:
            return False
        if self._stage is _Stage.OWN and not unparsed and len(self._source.encode()) < _LONGEST_ARGUMENT:
            self._stage = _Stage.GUARDED
        else:
            self._stage, self._words = _Stage.NONE, _words(unparsed[1] if unparsed else log)
        return True

    def body(self, messages: Sequence[dict[str, Any]], template_kwargs: dict[str, Any]) -> dict[str, Any]:
        """The body of POST /apply-template; raises TemplateError when the engine runs without the template."""
        if self._stage is _Stage.NONE:
            raise TemplateError(
                f"the model's chat template can't be read by the engine: {self._words}",
                hint="make a model of it with a TEMPLATE, send a template, or a raw prompt",
            )
        ours = {_OURS: messages} if self._stage is _Stage.GUARDED else {}
        return {"messages": messages, "chat_template_kwargs": {**template_kwargs, **ours}}


def refused(fault: Fault) -> SerowError:
    """The error for messages that a template does not accept, in its own words where it has some."""
    words = _words(fault.message)
    return MessagesRefused(f"the model's chat template does not accept the messages{words and f': {words}'}")


def _words(text: str) -> str:
    """What a template says when it raises, or the engine of it; "" for nothing that would help anybody."""
    if _NO_MEMORY.search(text):
        return "it takes more memory than it may have"
    raised = _RAISED.findall(text)
    found = raised[-1] if raised else text if "\n" not in text.strip() and _FAILED not in text else ""
    while preface := _PREFACE.match(found):
        found = found[preface.end() :]
    return " ".join(found.split())[:_LONGEST_WORDS]
