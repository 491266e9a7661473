"""Examples, and their rendering as ChatML with Hermes-style tools (as chat_template.jinja does)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Message = dict[str, Any]
Tool = dict[str, Any]

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKERS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
TEMPLATE = Path(__file__).with_name("chat_template.jinja")

_TOOLS_HEAD = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_TOOLS_TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments "
    "within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)


@dataclass(frozen=True)
class Example:
    """One training document: a dialogue, or plain text when `messages` is empty.

    `accept` tells whether a reply is right where more than the reference one is.
    """

    messages: list[Message] = field(default_factory=list)
    tools: list[Tool] = field(default_factory=list)
    text: str = ""
    accept: Callable[[str], bool] | None = None


def turn(user: str, assistant: str, accept: Callable[[str], bool] | None = None) -> Example:
    """A question and its answer."""
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return Example(messages, accept=accept)


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """One entry of an assistant message's `tool_calls`."""
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def reply_text(message: Message) -> str:
    """What the model itself writes for an assistant message, without <|im_end|>."""
    content = message.get("content") or ""
    for index, tool_call in enumerate(message.get("tool_calls") or []):
        function = tool_call["function"]
        arguments = to_json(function["arguments"])
        line = "\n" if content or index else ""
        content += f'{line}<tool_call>\n{{"name": "{function["name"]}", "arguments": {arguments}}}'
        content += "\n</tool_call>"
    return str(content)


def _system(messages: list[Message], tools: list[Tool]) -> str:
    text = messages[0]["content"] if messages[0]["role"] == "system" else ""
    if not tools:
        return f"<|im_start|>system\n{text}<|im_end|>\n" if text else ""
    head = f"{text}\n\n" if text else ""
    lines = "".join("\n" + to_json(tool) for tool in tools)
    return f"<|im_start|>system\n{head}{_TOOLS_HEAD}{lines}{_TOOLS_TAIL}<|im_end|>\n"


def render(messages: list[Message], tools: list[Tool]) -> list[tuple[str, bool]]:
    """The document in pieces of text, each with whether the model learns to write it."""
    pieces = [(_system(messages, tools), False)]
    for index, message in enumerate(messages):
        role, content = message["role"], message.get("content")
        if role == "user":
            pieces.append((f"<|im_start|>user\n{content}<|im_end|>\n", False))
        elif role == "tool":
            first = messages[index - 1]["role"] != "tool"
            last = index + 1 == len(messages) or messages[index + 1]["role"] != "tool"
            text = "<|im_start|>user" if first else ""
            text += f"\n<tool_response>\n{content}\n</tool_response>"
            pieces.append((text + ("<|im_end|>\n" if last else ""), False))
        elif role == "assistant":
            pieces.append(("<|im_start|>assistant\n", False))
            pieces.append((reply_text(message) + "<|im_end|>", True))
            pieces.append(("\n", False))
    return [piece for piece in pieces if piece[0]]
