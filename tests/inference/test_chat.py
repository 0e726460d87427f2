"""/api/chat with an engine that says what the test wrote: fields, roles, parts, thinking (CHAT-01 to CHAT-13)."""

import asyncio
from typing import Any

import pytest

from serow.engines.base import CompletionRequest
from serow.errors import InvalidModelName, ModelNotFound, RequestError
from tests.inference.messages import ADD, THINK, THINKS, said
from tests.support.engine import FakeEngine
from tests.support.flow import flow


@pytest.mark.req("CHAT-08")
async def test_each_token_is_a_message_of_the_assistant_and_the_last_record_counts() -> None:
    async with flow(FakeEngine(["Hel", "lo"])) as asked:
        *pieces, last = await asked.chat("Hi")
        whole = await asked.reply("Hi", logprobs=True)
    assert [piece["message"] for piece in pieces] == [{"role": "assistant", "content": text} for text in ("Hel", "lo")]
    assert last["message"] == {"role": "assistant", "content": ""} and (last["done"], last["done_reason"]) == (True, "stop")
    assert last["eval_count"] == 3 and last["total_duration"] > 0 and "context" not in last
    assert whole["message"] == {"role": "assistant", "content": "Hello"}
    assert [entry["token"] for entry in whole["logprobs"]] == ["Hel", "lo"]


@pytest.mark.req("CHAT-01")
async def test_fields_of_generate_are_none_of_chat_and_are_named() -> None:
    fields = {"template": "x", "system": "x", "raw": True, "suffix": "x", "context": [1], "prompt": "x", "images": ["x"]}
    engine = FakeEngine(["x"])
    async with flow(engine) as asked:
        record = await asked.reply("Hi", **fields, options={"odd": 1})
    assert engine.prompts == ["[user]Hi\n[assistant]"]
    assert record["warnings"] == [
        *(f'unknown field "{name}" was ignored' for name in fields),
        'unknown option "odd" was ignored',
    ]


@pytest.mark.req("CHAT-01", "CHAT-04")
@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"messages": {}}, '"messages" must be an array, not an object'),
        ({"messages": [5]}, '"messages[0]" must be an object, not an integer'),
        ({"messages": [{"role": 5}]}, '"messages[0].role" must be a string, not an integer'),
        ({"messages": [{"content": {}}]}, '"messages[0].content" must be a string, not an object'),
        (
            {"messages": [{"content": [{"type": "audio"}]}]},
            'content parts of type "audio" are not supported: send text or image_url',
        ),
        ({"messages": [{"images": "x"}]}, '"messages[0].images" must be an array, not a string'),
        ({"messages": [{"tool_calls": {}}]}, '"messages[0].tool_calls" must be an array, not an object'),
        ({"stream": "false"}, '"stream" must be a boolean, not a string'),
        ({"truncate": 0}, '"truncate" must be a boolean, not an integer'),
        ({"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"think": "ultra"}, 'invalid think value: "ultra" (must be "high", "medium", "low", "max", true, or false)'),
    ],
)
async def test_a_field_of_the_wrong_type_is_named(fields: dict[str, Any], error: str) -> None:
    async with flow(FakeEngine(["x"])) as asked:
        with pytest.raises(RequestError) as caught:
            await asked.chat("Hi", **fields)
    assert str(caught.value) == error


@pytest.mark.req("CHAT-02")
@pytest.mark.parametrize(
    ("name", "kind", "error"),
    [
        ("", RequestError, "model is required"),
        ("a//b", InvalidModelName, "invalid model name"),
        ("Nobody", ModelNotFound, "model 'Nobody' not found"),
    ],
)
async def test_a_model_has_a_name_that_the_store_knows(name: str, kind: type[Exception], error: str) -> None:
    async with flow(FakeEngine(["x"])) as asked:
        with pytest.raises(kind) as caught:
            await asked.reply("Hi", model=name)
    assert str(caught.value) == error


@pytest.mark.req("CHAT-02")
@pytest.mark.parametrize("messages", [[], [said("user", "Hi")]])
async def test_an_embedding_model_does_not_chat(messages: list[dict[str, Any]]) -> None:
    async with flow(FakeEngine(["x"]), "embedding") as asked:
        with pytest.raises(RequestError, match='"m" does not support chat'):
            await asked.chat(*messages)


@pytest.mark.req("CHAT-03")
@pytest.mark.parametrize("messages", [{"messages": []}, {"messages": None}])
async def test_without_messages_the_model_is_loaded_or_unloaded(messages: dict[str, Any]) -> None:
    engine = FakeEngine()
    async with flow(engine) as asked:
        (loaded,) = await asked.chat(**messages)
        assert engine.is_alive and loaded["message"] == {"role": "assistant", "content": ""}
        assert (loaded["done"], loaded["done_reason"]) == (True, "load")
        for keep_alive in (0, "0"):
            (unloaded,) = await asked.chat(**messages, keep_alive=keep_alive)
            assert (unloaded["done_reason"], engine.is_alive) == ("unload", False)


@pytest.mark.req("CHAT-03", "TOOL-01")
async def test_what_the_model_can_not_do_is_judged_before_a_load_and_not_before_an_unload() -> None:
    engine = FakeEngine()
    async with flow(engine) as asked:
        for fields, what in (({"tools": [ADD]}, "tools"), ({"think": True}, "thinking")):
            with pytest.raises(RequestError, match=f'"m" does not support {what}'):
                await asked.chat(**fields)
            assert (await asked.chat(**fields, keep_alive=0))[0]["done_reason"] == "unload"
    assert engine.num_loads == 0


@pytest.mark.req("CHAT-04")
async def test_roles_are_known_in_any_case_and_strange_ones_are_named() -> None:
    engine = FakeEngine(["x"])
    async with flow(engine) as asked:
        messages = [said("Developer", "A."), said("USER", "B."), said("critic", "C."), {}, None, said("user")]
        record = await asked.reply(messages=messages)
    assert engine.prompts == ["[system]A.\n[user]B.\n[critic]C.\n[]\n[]\n[user]\n[assistant]"]
    assert record["warnings"] == ['the role "critic" is not known: most templates leave its messages out']


@pytest.mark.req("CHAT-04")
async def test_content_may_be_parts_and_pictures_stand_where_they_are_put(png: str) -> None:
    engine = FakeEngine(["x"])
    parts = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png}"}}]
    async with flow(engine, "completion", "vision") as asked:
        await asked.reply(said("user", content=parts))  # type: ignore[arg-type]
        with pytest.raises(RequestError, match="image URLs are not currently supported"):
            await asked.reply({"role": "user", "content": [{"type": "image_url", "image_url": "https://x/y.png"}]})
    assert engine.prompts == ["[user]What?<__media__>\n[assistant]"]


@pytest.mark.req("CHAT-05")
async def test_the_models_own_texts_come_before_the_requests() -> None:
    own = {"system": "S.", "messages": ({"role": "user", "content": "1?"}, {"role": "assistant", "content": "1."})}
    async with flow(FakeEngine(["x"]), **own) as asked:
        assert await asked.shown("2?") == "[system]S.\n[user]1?\n[assistant]1.\n[user]2?\n[assistant]"
        assert await asked.shown(said("system", "T."), "2?") == "[system]T.\n[user]1?\n[assistant]1.\n[user]2?\n[assistant]"
        later = await asked.shown("2?", said("system", "T."), "3?")
    assert later == "[system]S.\n[user]1?\n[assistant]1.\n[user]2?\n[system]T.\n[user]3?\n[assistant]"


@pytest.mark.req("CHAT-03")
async def test_options_are_judged_before_a_load_and_not_before_an_unload() -> None:
    wrong = {"options": {"top_k": "x"}}
    async with flow(FakeEngine(["x"])) as asked:
        assert (await asked.reply(keep_alive=0, **wrong))["done_reason"] == "unload"
        assert (await asked.reply(keep_alive="0s", **wrong))["done_reason"] == "unload"
        for fields in (wrong, {"keep_alive": 0, "options": []}):
            with pytest.raises(RequestError, match="option"):
                await asked.reply(**fields)


@pytest.mark.req("CHAT-07", "CHAT-04")
async def test_a_shown_prompt_is_one_object_and_names_what_is_ignored() -> None:
    async with flow(FakeEngine(["x"])) as asked:
        (record,) = await asked.chat(said("critic", "Hi"), _debug_render_only=True)
    assert record["message"] == {"role": "", "content": ""} and record["done"] is False
    assert record["_debug_info"] == {"rendered_template": "[critic]Hi\n[assistant]"} and len(record["warnings"]) == 1


@pytest.mark.req("CHAT-09")
async def test_options_stop_and_num_predict_are_as_in_generate() -> None:
    engine = FakeEngine(["a", "b", "c"])
    async with flow(engine, parameters={"top_k": 5}) as asked:
        assert (await asked.reply("Hi", options={"num_predict": 0}))["done_reason"] == "length"
        assert (await asked.reply("Hi", options={"stop": "c", "top_p": 0.5}))["message"]["content"] == "ab"
    assert (engine.requests[0].options.top_k, engine.requests[0].options.top_p) == (5, 0.5)


def thinking_first(request: CompletionRequest) -> list[str]:
    return ["4", "2"] if request.grammar else ["<think>", "Hm", "</think>", "not bound"]


@pytest.mark.req("CHAT-09", "CHAT-10", "CHAT-13")
async def test_thinking_comes_first_then_the_answer_bound_to_its_format() -> None:
    async with flow(FakeEngine(thinking_first), *THINKS, chat_template=THINK) as asked:
        record = await asked.reply("Hi", format={"type": "integer"}, logprobs=True)
        *pieces, _ = await asked.chat("Hi", format={"type": "integer"})
    assert record["message"] == {"role": "assistant", "content": "42", "thinking": "Hm"}
    assert [entry["token"] for entry in record["logprobs"]] == ["<think>", "Hm", "</think>", "4", "2"]
    assert [piece["message"].get("thinking", "") for piece in pieces] == ["Hm", "", ""]


@pytest.mark.req("CHAT-09")
@pytest.mark.parametrize("format", [5, "xml", {"type": 5}])
async def test_a_format_that_is_none_is_refused(format: Any) -> None:
    async with flow(FakeEngine(["x"])) as asked:
        with pytest.raises(RequestError):
            await asked.reply("Hi", format=format)


@pytest.mark.req("CHAT-10")
async def test_thinking_of_the_history_goes_to_the_template_and_leaves_texts_of_earlier_turns() -> None:
    engine = FakeEngine(["x"])
    history = (
        "1?",
        said("assistant", "<think>\nold\n</think>\n\n1.", thinking="Ones."),
        "2?",
        said("assistant", "<think>new</think>2."),
        said("tool", "3"),
    )
    async with flow(engine, *THINKS, chat_template=THINK) as asked:
        await asked.reply(*history)
    ((messages, kwargs),) = engine.rendered
    assert [message["content"] for message in messages] == ["1?", "1.", "2?", "<think>new</think>2.", "3"]
    assert messages[1]["reasoning_content"] == "Ones." and kwargs == {"enable_thinking": True}


@pytest.mark.req("CHAT-10")
async def test_think_is_true_where_it_is_absent_and_refused_where_it_can_not_be() -> None:
    engine = FakeEngine(["x"])
    async with flow(engine, *THINKS, chat_template=THINK) as asked:
        await asked.reply("Hi", think=False)
        await asked.reply("Hi", think="low")
    assert [kwargs for _, kwargs in engine.rendered] == [
        {"enable_thinking": False},
        {"enable_thinking": True, "reasoning_effort": "low"},
    ]
    async with flow(FakeEngine(["x"])) as asked:
        await asked.reply("Hi", think=False)
        with pytest.raises(RequestError, match='"m" does not support thinking'):
            await asked.reply("Hi", think=True)


@pytest.mark.req("CHAT-11")
async def test_pictures_stand_before_the_texts_of_their_messages(png: str) -> None:
    engine = FakeEngine(["x"])
    messages = (said("user", "one", images=[png]), said("assistant", "ok"), said("user", "a [img] b", images=[png, png]))
    async with flow(engine, "completion", "vision") as asked:
        assert await asked.shown(*messages) == "[user][img-0]one\n[assistant]ok\n[user][img-2]a [img-1] b\n[assistant]"
        await asked.reply(*messages)
    assert engine.prompts[-1].count("<__media__>") == 3 and len(engine.requests[-1].images) == 3


@pytest.mark.req("CHAT-11")
async def test_a_model_that_can_not_see_refuses_pictures_of_the_history_too(png: str) -> None:
    async with flow(FakeEngine(["x"])) as asked:
        with pytest.raises(RequestError, match='"m" does not support images'):
            await asked.reply(said("user", "one", images=[png]), said("assistant", "ok"), "two")


@pytest.mark.req("CHAT-13")
async def test_log_probabilities_come_with_their_pieces() -> None:
    async with flow(FakeEngine(["<think>", "Hm", "</think>", "Yes"]), *THINKS, chat_template=THINK) as asked:
        *pieces, _ = await asked.chat("Hi", logprobs=True)
    assert [[entry["token"] for entry in piece.get("logprobs", [])] for piece in pieces] == [
        ["<think>"],
        ["Hm"],
        ["</think>"],
        ["Yes"],
    ]


async def test_conversations_run_together() -> None:
    engine = FakeEngine(["a"])
    async with flow(engine) as asked:
        records = await asyncio.gather(*(asked.reply(f"{number}") for number in range(8)))
    assert [record["message"]["content"] for record in records] == ["a"] * 8
