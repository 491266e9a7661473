"""The bytes that each token stands for, read off the tokenizer's decoder.

Concatenating them decodes a sequence, which is what makes O(1) streaming and OpenAI's
`logprobs.bytes` possible. Covers byte-level BPE (GPT-2, Llama 3, Qwen) and SentencePiece
(`▁`, `<0xNN>`); `read_recipe` says None for any other decoder.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from msgspec import Struct

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Recipe(Struct, frozen=True):
    """How a decoder turns a token's string into bytes.

    `strip` leading spaces are dropped from the start of a text (SentencePiece's dummy prefix);
    -1 drops all that the first token brings.
    """

    to_bytes: Callable[[str], bytes]
    strip: int = 0


@cache
def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte (openai/gpt-2, `bytes_to_unicode`)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    shifted = {chr(256 + position): byte for position, byte in enumerate(others)}
    return {chr(byte): byte for byte in plain} | shifted


def _byte_level(token: str) -> bytes:
    alphabet = _byte_level_alphabet()
    try:
        return bytes(alphabet[char] for char in token)
    except KeyError:  # an added token is written as it is
        return token.encode()


def read_recipe(decoder: dict[str, Any] | None) -> Recipe | None:
    """The recipe of tokenizer.json's `decoder`; None if tokens do not simply concatenate."""
    steps = _flatten(decoder)
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        return Recipe(_byte_level)
    if not steps or not set(kinds) <= {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"}:
        return None
    replacements: list[tuple[str, str]] = []
    strip = 0
    for position, step in enumerate(steps):
        match step:
            case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)}:
                replacements.append((old, new))
            case {"type": "Metaspace", "replacement": str(old)}:
                replacements.append((old, " "))
                strip = -1 if _prepends(step) else 0
            case {"type": "Strip", "content": " ", "start": int(start), "stop": 0}:
                if "Fuse" not in kinds[:position]:
                    return None
                strip = start
            case {"type": "ByteFallback" | "Fuse"}:
                pass
            case _:
                return None
    return Recipe(_sentencepiece(tuple(replacements), "ByteFallback" in kinds), strip)


def _sentencepiece(
    replacements: tuple[tuple[str, str], ...], byte_fallback: bool
) -> Callable[[str], bytes]:
    def to_bytes(token: str) -> bytes:
        if byte_fallback and (match := _BYTE_TOKEN.fullmatch(token)):
            return bytes([int(match[1], 16)])
        for old, new in replacements:
            token = token.replace(old, new)
        return token.encode()

    return to_bytes


def _prepends(metaspace: dict[str, Any]) -> bool:
    """Whether encoding puts a space before a text; older files say it with a flag."""
    if "prepend_scheme" in metaspace:
        return bool(metaspace["prepend_scheme"] != "never")
    return bool(metaspace.get("add_prefix_space", True))


def _flatten(decoder: dict[str, Any] | None) -> list[dict[str, Any]]:
    if decoder is None:
        return []
    if decoder.get("type") != "Sequence":
        return [decoder]
    return [step for each in decoder.get("decoders", []) for step in _flatten(each)]
