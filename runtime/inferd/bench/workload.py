"""The prompts of a benchmark: words drawn by chance, or lines of a file."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from inferd.bench.errors import BenchError

_WORDS = (
    "able acid aged area army away baby back ball band bank base bath bear beat bell bird blow "
    "blue boat body bone book born both call calm came camp card care case cash cast city club "
    "coal coat cold come cook cool copy cost crew dark data date dawn days dead deal dear deep "
    "desk dish door down draw drop dust duty each earn east easy edge else even ever face fact "
    "fair fall farm fast fear feel feet file fill film find fine fire fish five flat flow food "
    "foot form free from full fund gain game gate gave girl give glad goal goes gold good gray"
)
WORDS = tuple(_WORDS.split())
"""Common words of four letters: with the blank before it a word is one token of most vocabularies,
and always the same number of bytes."""


@dataclass(frozen=True)
class Prompt:
    """What one request asks. Lengths in tokens; `input_len` 0: whatever `text` comes to."""

    text: str | list[int]  # or its token ids, which chats do not take
    output_len: int
    input_len: int = 0


@dataclass(frozen=True)
class Lengths:
    """How many tokens go in and come out.

    Attributes:
        range_ratio: lengths are drawn evenly from `length * (1 ± range_ratio)`; below 1.
        prefix_len: tokens that come before `input_len` and are the same in every request.
    """

    input_len: int
    output_len: int
    range_ratio: float = 0.0
    prefix_len: int = 0


@dataclass(frozen=True)
class Tokenization:
    """How a server counts: a prompt of `n` words has `overhead + n * per_word` tokens."""

    per_word: float = 1.0
    overhead: float = 0.0

    @classmethod
    def measured(cls, once: int, twice: int) -> Tokenization:
        """From the tokens of two prompts: every word once, and twice; so an average word's share
        is exact. Raises BenchError."""
        if twice <= once:
            raise BenchError(
                f"the server counts {once} and {twice} tokens for {len(WORDS)} and "
                f"{2 * len(WORDS)} words; --dataset-path takes prompts as they are"
            )
        return cls((twice - once) / len(WORDS), 2 * once - twice)

    def words(self, tokens: int) -> int:
        """How many words come nearest to so many tokens; at least one."""
        return max(1, round((tokens - self.overhead) / self.per_word))


def words(count: int, chance: random.Random) -> str:
    """`count` words by chance."""
    return " ".join(chance.choices(WORDS, k=count))


def random_prompts(
    count: int, lengths: Lengths, tokenization: Tokenization, seed: int
) -> list[Prompt]:
    """`count` prompts, the same for the same seed."""
    chance = random.Random(seed)
    shared = round(lengths.prefix_len / tokenization.per_word)
    prefix = words(shared, chance)
    prompts = []
    for _ in range(count):
        input_len = lengths.prefix_len + drawn(lengths.input_len, lengths.range_ratio, chance)
        output_len = drawn(lengths.output_len, lengths.range_ratio, chance)
        own = words(max(1, tokenization.words(input_len) - shared), chance)
        text = f"{prefix} {own}" if prefix else own
        prompts.append(Prompt(text, output_len, input_len))
    return prompts


def drawn(length: int, ratio: float, chance: random.Random) -> int:
    """A number from `length * (1 ± ratio)`; at least 1."""
    return max(1, chance.randint(round(length * (1 - ratio)), round(length * (1 + ratio))))


class _Line(Struct, forbid_unknown_fields=True):
    prompt: str
    output_tokens: int | None = None


def file_prompts(path: Path, count: int | None, output_len: int) -> list[Prompt]:
    """Lines of a JSONL file, `{"prompt": "…", "output_tokens": 100}`, the latter if it is to differ
    from `output_len`. Where `count` exceeds them, they come again. Raises BenchError."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"--dataset-path {path}: {error}") from error
    prompts = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            read = msgspec.json.decode(line, type=_Line)
        except msgspec.DecodeError as error:
            raise BenchError(f"--dataset-path {path}, line {number}: {error}") from error
        prompts.append(Prompt(read.prompt, read.output_tokens or output_len))
    if not prompts:
        raise BenchError(f"--dataset-path {path}: the file has no prompts")
    return [prompts[i % len(prompts)] for i in range(count or len(prompts))]
