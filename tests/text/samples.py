"""Small tokenizers of every kind that matters, trained on the spot."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from inferd.text import tokenizer as text_tokenizer

CORPUS = [
    "The quick brown fox jumps over the lazy dog. Hello world, hello there!",
    "Ein schöner Tag in München: Straße, Übung, naïve café.",
    "日本語のテキスト 🙂 emoji 👩‍👩‍👧 done, Привет мир.",
    "def main():\n    return 42  # two  spaces\n\tand a tab",
] * 4
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
CONFIG = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}}


@cache
def byte_level() -> text_tokenizer.Tokenizer:
    """As GPT-2, Llama 3, Qwen. `<tool>` is an added token that is not special."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    _train(
        tokenizer,
        trainers.BpeTrainer(
            vocab_size=420,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=SPECIAL,
            show_progress=False,
        ),
    )
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    return _finish(tokenizer)


@cache
def metaspace() -> text_tokenizer.Tokenizer:
    """As T5 or XGLM: Unigram over `▁`."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300,
        special_tokens=["<unk>", *SPECIAL],
        unk_token="<unk>",
        show_progress=False,
    )
    _train(tokenizer, trainer)
    return _finish(tokenizer)


@cache
def byte_fallback() -> text_tokenizer.Tokenizer:
    """As Llama 2 and Mistral: BPE over `▁`, unknown characters as `<0xNN>`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    latin = [text for text in CORPUS if text.isascii()]
    trainer = trainers.BpeTrainer(
        vocab_size=450, special_tokens=["<unk>", *SPECIAL, *tokens], show_progress=False
    )
    tokenizer.train_from_iterator(latin, trainer)
    written = json.loads(tokenizer.to_str())
    written["added_tokens"] = [t for t in written["added_tokens"] if t["content"] not in tokens]
    written["model"] |= {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}
    return _finish(Tokenizer.from_str(json.dumps(written)))


@cache
def word_piece() -> text_tokenizer.Tokenizer:
    """A decoder whose tokens do not simply concatenate."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    _train(
        tokenizer,
        trainers.WordPieceTrainer(
            vocab_size=200, special_tokens=["<unk>", *SPECIAL], show_progress=False
        ),
    )
    return _finish(tokenizer)


def rebuilt(
    tokenizer: text_tokenizer.Tokenizer, config: dict[str, Any]
) -> text_tokenizer.Tokenizer:
    """The same tokenizer under another tokenizer_config.json."""
    return text_tokenizer.Tokenizer(tokenizer.backend.to_str().encode(), config)


def _train(tokenizer: Tokenizer, trainer: trainers.Trainer) -> None:
    tokenizer.train_from_iterator(CORPUS, trainer)


def _finish(tokenizer: Tokenizer) -> text_tokenizer.Tokenizer:
    bos = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", bos)]
    )
    return text_tokenizer.Tokenizer(tokenizer.to_str().encode(), CONFIG)
