"""The model's tokens as llguidance wants them: what bytes each adds, and which end an answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from pathlib import Path
from threading import Lock

from llguidance import LLTokenizer

from inferd.errors import StartError
from inferd.text.model import load_text

_log = logging.getLogger("inferd.engines.native")


class Unconstrainable(Exception):
    """Nothing says what bytes this model's tokens stand for, or what ends its answers."""


SMALL = 32_768
"""Tokens. Up to here a start is as well the time to build: it takes a tenth of a second."""


class Vocabulary:
    """A tokenizer for grammars, built when it is first wanted.

    Building holds the interpreter's lock: a second for 150,000 tokens. So `warm` it while nothing
    runs, where nothing speaks against it.

    Args:
        read: the text of a tokenizer.json, and the ids that end a sequence.
        size: of the model's logits.
        ahead: `warm` builds it before it is wanted.
    """

    def __init__(
        self,
        read: Callable[[], tuple[str, Collection[int]]],
        size: int,
        *,
        ahead: bool = False,
    ) -> None:
        self.size = size
        self._read = read
        self._ahead = ahead
        self._lock = Lock()
        self._built: tuple[LLTokenizer, frozenset[int]] | None = None
        self._reason = ""

    def warm(self) -> None:
        """Build it now, if ever ahead and nobody builds it yet; why it cannot be is logged."""
        if not self._ahead or self._lock.locked():
            return
        self._ahead = False
        try:
            self.get()
        except Unconstrainable as error:
            _log.warning("no formats, grammars or required tools with this model: %s", error)

    def get(self) -> tuple[LLTokenizer, frozenset[int]]:
        """The tokenizer and the ids that end a sequence. Raises Unconstrainable."""
        with self._lock:
            if self._built is None and not self._reason:
                try:
                    self._built = self._build()
                except (ValueError, StartError) as error:
                    self._reason = str(error) or type(error).__name__
        if self._built is None:
            raise Unconstrainable(self._reason)
        return self._built

    def _build(self) -> tuple[LLTokenizer, frozenset[int]]:
        text, ends = self._read()
        known = frozenset(token for token in ends if 0 <= token < self.size)
        if not known:
            raise ValueError("it has no token that ends an answer")
        return LLTokenizer(text, n_vocab=self.size, eos_token=sorted(known)), known


def of_checkpoint(folder: Path, size: int) -> Vocabulary:
    """The vocabulary of the checkpoint in `folder`, as its text side reads it."""

    def read() -> tuple[str, Collection[int]]:
        text = load_text(folder)
        return text.tokenizer.backend.to_str(), text.eos_ids

    # Any other format takes seconds to convert.
    vocabulary = Vocabulary(read, size, ahead=(folder / "tokenizer.json").is_file())
    if size <= SMALL:
        vocabulary.warm()
    return vocabulary
