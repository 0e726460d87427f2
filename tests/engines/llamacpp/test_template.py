"""How an engine that does not start with a model's chat template is started all the same."""

import pytest

from serow.engines.llamacpp.events import Fault
from serow.engines.llamacpp.template import ChatTemplate, refused
from serow.errors import TemplateError

HEAD = "0.00.032 E srv          init: init: chat template parsing error: "
UNPARSED = f"0.00.032 E common_chat_templates_init: error: Unknown statement: do\n{HEAD}std::exception\n"
RAISED = f"{HEAD}Unable to generate parser.\n-----\nWhile executing\nError: Jinja Exception: no system\n0.00 E srv init"
MESSAGES = [{"role": "user", "content": "Hi"}]


def test_a_template_that_the_engine_takes_is_its_own_business() -> None:
    template = ChatTemplate("{{ 1 }}")
    assert template.override == ""
    assert template.body(MESSAGES, {"a": 1}) == {"messages": MESSAGES, "chat_template_kwargs": {"a": 1}}


def test_one_that_raises_when_it_is_tried_renders_our_messages_only() -> None:
    template = ChatTemplate("\n{{ 1 }}\n")
    assert template.fall_back(RAISED)
    assert "\n{{ 1 }}" in template.override and not template.override.startswith("\n")
    assert template.body(MESSAGES, {"a": 1})["chat_template_kwargs"] == {"a": 1, "serow_messages": MESSAGES}


@pytest.mark.parametrize("logs", [[UNPARSED], [RAISED, UNPARSED], [RAISED, RAISED]])
def test_one_that_can_not_be_used_at_all_is_told_in_its_own_words(logs: list[str]) -> None:
    template = ChatTemplate("{{ 1 }}")
    assert all(template.fall_back(log) for log in logs)
    assert not template.fall_back(UNPARSED) and "1" not in template.override
    with pytest.raises(TemplateError, match="Unknown statement: do" if logs[-1] is UNPARSED else "no system"):
        template.body(MESSAGES, {})


def test_one_that_is_too_long_for_a_command_line_is_left_out() -> None:
    template = ChatTemplate("x" * 200_000)
    assert template.fall_back(RAISED) and len(template.override) < 100


@pytest.mark.parametrize(("source", "log"), [("", UNPARSED), ("{{ 1 }}", "error loading model"), ("{{ 1 }}", "")])
def test_what_has_another_reason_is_no_business_of_the_template(source: str, log: str) -> None:
    assert not ChatTemplate(source).fall_back(log)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("\n---\nWhile executing CallExpression at line 1\n  ^\nError: Jinja Exception: no system", ": no system"),
        ("Unable to generate parser for this template. Automatic parser generation failed: Unknown filter", ": Unknown filter"),
        ("std::bad_alloc", ": it takes more memory than it may have"),
        ("a\nb", ""),
        ("", ""),
        ("Error: " + "x" * 5000, ": " + "x" * 300),
    ],
)
def test_a_refusal_says_what_the_template_says(message: str, words: str) -> None:
    assert str(refused(Fault(message=message))) == f"the model's chat template does not accept the messages{words}"
