"""Byte-level BPE tokenizer: training on the synthetic text, saving, and encoding of examples."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from benchmarks.demo_model.chat import MARKERS, SPECIAL, TEMPLATE, Example, render
from benchmarks.demo_model.data import documents

VOCABULARY = 4096
CONTEXT = 8192
# Digits and capitals stand alone, so that numbers and upper case are copied and changed letter by
# letter. A space, dash or underscore goes with the small letters that follow.
PATTERN = (
    r"'(?:s|t|re|ve|m|ll|d)(?!\p{L})|[ _\-]?\p{Ll}+|\p{Lu}\p{Ll}*|[\p{Lt}\p{Lm}\p{Lo}\p{M}]+|"
    r"\p{N}| ?[^\s\p{L}\p{N}\p{M}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _plain(example: Example) -> str:
    pieces = render(example.messages, example.tools) if example.messages else [(example.text, True)]
    text = "".join(piece for piece, _ in pieces)
    for token in (*SPECIAL, *MARKERS):
        text = text.replace(token, "\n")
    return text


def train_tokenizer(seed: int, count: int = 30_000) -> Tokenizer:
    """A tokenizer of VOCABULARY entries, learned from `count` documents."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL) - len(MARKERS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (_plain(example) for example in itertools.islice(documents(seed), count))
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in SPECIAL])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in MARKERS])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    tokenizer.save(str(folder / "tokenizer.json"))
    template = TEMPLATE.read_text().rstrip("\n")
    (folder / "chat_template.jinja").write_text(template + "\n")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "bos_token": None,
        "unk_token": None,
        "additional_special_tokens": ["<|im_start|>"],
        "clean_up_tokenization_spaces": False,
        "chat_template": template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def encode(tokenizer: Tokenizer, example: Example) -> tuple[list[int], list[bool]]:
    """Token ids of a document, and for each whether the model learns to write it."""
    if not example.messages:
        ids = tokenizer.encode(example.text + "<|endoftext|>").ids
        return ids, [False] + [True] * (len(ids) - 1)
    ids, learned = [], []
    for text, wanted in render(example.messages, example.tools):
        piece = tokenizer.encode(text).ids
        ids += piece
        learned += [wanted] * len(piece)
    return ids, learned
