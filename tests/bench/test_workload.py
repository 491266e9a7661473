"""Prompts of known lengths, by chance or from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferd.bench.errors import BenchError
from inferd.bench.workload import (
    WORDS,
    Lengths,
    Prompt,
    Tokenization,
    file_prompts,
    random_prompts,
)

BYTES = Tokenization(per_word=5, overhead=-1)  # four letters and the blank between


def length(prompt: Prompt) -> int:
    return len(prompt.text)


def test_words_are_alike() -> None:
    assert len(set(WORDS)) == len(WORDS)
    assert {len(word) for word in WORDS} == {4}


def test_a_server_that_counts_bytes_is_understood() -> None:
    once, twice = " ".join(WORDS), " ".join(WORDS * 2)
    assert Tokenization.measured(len(once), len(twice)) == BYTES


def test_a_server_that_counts_nothing() -> None:
    with pytest.raises(BenchError, match=r"counts 5 and 5 tokens for .* words; --dataset-path"):
        Tokenization.measured(5, 5)


def test_prompts_have_their_length() -> None:
    prompts = random_prompts(20, Lengths(99, 7), BYTES, seed=1)
    assert {length(prompt) for prompt in prompts} == {99}
    assert {(prompt.input_len, prompt.output_len) for prompt in prompts} == {(99, 7)}
    assert len({prompt.text for prompt in prompts}) == 20


def test_a_chat_templates_tokens_count() -> None:
    (prompt,) = random_prompts(1, Lengths(99, 7), Tokenization(5, 24), seed=1)
    assert length(prompt) == 74


def test_lengths_vary_as_asked() -> None:
    prompts = random_prompts(500, Lengths(100, 20, range_ratio=0.5), BYTES, seed=2)
    wanted = {prompt.input_len for prompt in prompts}
    assert (min(wanted), max(wanted)) == (50, 150)
    assert {prompt.output_len for prompt in prompts} == set(range(10, 31))
    assert all(abs(length(prompt) - prompt.input_len) <= 2.5 for prompt in prompts)


def test_a_shared_prefix_comes_before() -> None:
    prompts = random_prompts(5, Lengths(49, 1, prefix_len=100), BYTES, seed=3)
    assert {length(prompt) for prompt in prompts} == {149}
    assert len({str(prompt.text)[:100] for prompt in prompts}) == 1
    assert len({str(prompt.text)[100:] for prompt in prompts}) == 5


def test_the_seed_makes_the_prompts() -> None:
    lengths = Lengths(50, 5, 0.3, 20)
    assert random_prompts(5, lengths, BYTES, 4) == random_prompts(5, lengths, BYTES, 4)
    assert random_prompts(5, lengths, BYTES, 4) != random_prompts(5, lengths, BYTES, 5)


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "one"}\n\n{"prompt": "two", "output_tokens": 9}\n')
    one, two = Prompt("one", 5), Prompt("two", 9)
    assert file_prompts(file, None, 5) == [one, two]
    assert file_prompts(file, 1, 5) == [one]
    assert file_prompts(file, 3, 5) == [one, two, one]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"prompt": "one"}\n{"prompt": 3}', "line 2: Expected `str`"),
        ('{"prompt": "one", "tokens": 3}', "line 1: .*unknown field `tokens`"),
        ("prompt", "line 1: "),
        ("\n", "has no prompts"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(text)
    with pytest.raises(BenchError, match=f"--dataset-path {file}.*{words}"):
        file_prompts(file, None, 5)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="No such file"):
        file_prompts(tmp_path / "none", None, 5)
