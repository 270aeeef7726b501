"""One message of a conversation, in the many ways that people write it down."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, cast

from rlhf.records import Message, Role

Row = Mapping[str, Any]


class RowError(ValueError):
    """What is wrong with one row; the caller adds where it stands."""


_ROLES: dict[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "u", "user 1", "customer", "prompter"), "user"),
    **dict.fromkeys(("tool", "api", "function", "observation", "ipython"), "tool"),
    **dict.fromkeys(
        ("assistant", "gpt", "chatgpt", "bing", "bard", "ai", "bot", "model", "agent", "s"),
        "assistant",
    ),
    **dict.fromkeys(("user 2", "function_call", "tool_call"), "assistant"),
}
_CALLERS = ("function_call", "tool_call")
"""ShareGPT's roles whose text is a call."""
_SPEAKER = ("role", "from", "speaker")
_CONTENT = ("content", "value", "text")
_THINKING = ("thinking", "reasoning_content", "reasoning")
_CALLS = ("tool_calls", "function_call")
_WEIGHT = ("weight", "train")
_PASSED = ("tool_call_id", "name")
_PART = ("type", "text", "thinking", "index", "cache_control")


def message(entry: object) -> Message:
    """The message in ``{role, content, …}``, ``{from, value}`` or ``[speaker, text]``."""
    if isinstance(entry, (list, tuple)) and len(cast("list[object]", entry)) == 2:
        speaker, content = cast("list[object]", entry)
        return Message(_role(speaker), _text(content)[0])
    if not isinstance(entry, Mapping):
        raise RowError("a message must be {role, content}")
    turn = {key: value for key, value in cast("Row", entry).items() if value is not None}
    speaker = turn.get(next((key for key in _SPEAKER if key in turn), ""))
    content, thinking = _text(turn.get(next((key for key in _CONTENT if key in turn), ""), ""))
    thinking = _thoughts(turn, thinking)
    calls = _tool_calls(turn)
    if str(speaker).strip().lower() in _CALLERS:
        content, calls = "", _encoded_calls(content)
    if not any(key in turn for key in _CONTENT) and not (thinking or calls):
        content = _other_fields(turn)
    role = _role(speaker)
    if role != "assistant" and (thinking or calls):
        raise RowError(f"a message of role {speaker!r} cannot think or call tools")
    if turn.get("tools"):
        raise RowError("`tools` stand in a message; give them as a column beside `messages`")
    passed = {key: str(turn[key]) for key in _PASSED if key in turn}
    weight = _weight(turn) if role == "assistant" else 1
    return Message(role, content, thinking, calls, **passed, weight=weight)


def unread_fields(value: object) -> Iterator[str]:
    """The fields of messages that :func:`message` makes nothing of."""
    known = {*_THINKING, *_CALLS, *_WEIGHT, *_PASSED}
    for entry in cast("list[object]", value) if isinstance(value, list) else [value]:
        if not isinstance(entry, Mapping):
            continue
        turn = {k: v for k, v in cast("Row", entry).items() if v not in (None, "", [], {})}
        firsts = {next((k for k in names if k in turn), "") for names in (_SPEAKER, _CONTENT)}
        if "" not in firsts:
            yield from turn.keys() - known - firsts


def decoded(name: str, value: str) -> Any:  # noqa: ANN401 - JSON is untyped
    """The JSON in the text ``value``."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RowError(f"{name} are neither a list nor JSON for one") from error


def encoded_tools(name: str, value: object) -> str:
    """Schemas of tools as the JSON of a list, each ``{type: function, function: …}``."""
    if isinstance(value, str):
        value = decoded(f"`{name}`", value) if value.strip() else []
    tools = cast("list[object]", value) if isinstance(value, list) else [value]
    if not all(isinstance(tool, Mapping) for tool in tools):
        raise RowError(f"`{name}` must be a list of schemas of tools")
    schemas = [cast("Row", tool) for tool in tools]
    wrapped = [t if "function" in t else {"type": "function", "function": t} for t in schemas]
    return json.dumps(wrapped, ensure_ascii=False) if wrapped else ""


def _role(speaker: object) -> Role:
    role = _ROLES.get(str(speaker).strip().lower())
    if role is None:
        raise RowError(f"unknown role {speaker!r}; use system, user, assistant or tool")
    return role


def _text(content: object) -> tuple[str, str]:
    """The text, or the text parts of a list of parts on lines of their own; and the thoughts."""
    if isinstance(content, str):
        return content, ""
    parts = cast("list[object]", content) if isinstance(content, list) else [content]
    if not all(isinstance(part, Mapping) for part in parts) or not isinstance(content, list):
        raise RowError(f"a message's content must be text, not {type(content).__name__}")
    texts: dict[str, list[str]] = {"text": [], "thinking": []}
    for part in parts:
        given = {key: v for key, v in cast("Row", part).items() if v not in (None, "", [], {})}
        strange = [key for key in given if key not in _PART]
        kind = "thinking" if "thinking" in given else "text"
        if strange or (given.keys() <= {"type"} and given.get("type", "text") not in texts):
            what = given.get("type", strange[0] if strange else "")
            raise RowError(f"a part of a message's content is {what}, not text")
        texts[kind] += [str(given[kind])] if kind in given else []
    return "\n".join(texts["text"]), "\n".join(texts["thinking"])


def _thoughts(turn: Row, in_parts: str) -> str:
    given = {str(turn[name]): name for name in _THINKING if turn.get(name)}
    given |= {in_parts: "content"} if in_parts else {}
    if len(given) > 1:
        raise RowError(f"a message has different thoughts under {', '.join(given.values())}")
    return next(iter(given), "")


def _tool_calls(turn: Row) -> str:
    name = next((name for name in _CALLS if turn.get(name)), None)
    return _encoded_calls(turn[name]) if name else ""


def _encoded_calls(value: object) -> str:
    """The calls as the JSON of a list of ``{type, function: {name, arguments}}``."""
    if isinstance(value, str):
        value = decoded("calls of tools", value)
    calls = cast("list[object]", value) if isinstance(value, list) else [value]
    return json.dumps([_call(call) for call in calls], ensure_ascii=False) if calls else ""


def _call(call: object) -> dict[str, Any]:
    if not isinstance(call, Mapping):
        raise RowError("a call of a tool must be {name, arguments}")
    outer = cast("Row", call)
    function = outer.get("function", outer)
    if not isinstance(function, Mapping) or not isinstance(outer.get("id", ""), (str, type(None))):
        raise RowError("a call of a tool must be {name, arguments}")
    inner = cast("Row", function)
    name = inner.get("name")
    arguments = inner.get("arguments", inner.get("parameters"))
    strange = [*(outer.keys() - {"id", "type", "index", "function"} if inner is not outer else ())]
    strange += inner.keys() - {"id", "type", "index", "name", "arguments", "parameters"}
    if not isinstance(name, str) or not name or strange:
        raise RowError(f"a call of a tool must be {{name, arguments}}, not {', '.join(outer)}")
    if isinstance(arguments, str):  # as OpenAI writes them; templates want an object
        try:
            arguments = json.loads(arguments)
        except ValueError as error:
            raise RowError(f"the arguments of the call of `{name}` are not JSON") from error
    found = {"type": "function", "function": {"name": name, "arguments": arguments or {}}}
    return {"id": outer["id"], **found} if outer.get("id") else found


def _weight(turn: Row) -> Literal[0, 1]:
    for name in _WEIGHT:
        if name in turn:
            if turn[name] not in (0, 1):
                raise RowError(f"`{name}` of a message must be 0 or 1, not {turn[name]!r}")
            return 1 if turn[name] else 0
    return 1


def _other_fields(turn: Row) -> str:
    """A turn without text is a call of a tool or its answer: what else it holds, as JSON."""
    known: Sequence[str] = (*_SPEAKER, *_CONTENT, *_WEIGHT, *_PASSED)
    rest = {k: v for k, v in turn.items() if k not in known and v not in ("", [], {})}
    if not rest:
        raise RowError("a message has no content")
    return json.dumps(rest, ensure_ascii=False, default=str)
