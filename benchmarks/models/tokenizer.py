"""A byte-level BPE tokenizer of any size, so that a daemon can serve random weights as text.

Its words are aa, ab, … zz, aaa, …: it is as long to load as a real one, and every id is readable.
"""

from __future__ import annotations

import itertools
import json
import string
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

END = "<|end|>"
TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def write_tokenizer(folder: Path, vocabulary: int) -> None:
    """Write tokenizer.json, tokenizer_config.json and a chat template.

    Args:
        vocabulary: entries, at least 257: 256 bytes, words, and last the end of a text.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = list(itertools.islice(_words(), vocabulary - len(alphabet) - 1))
    entries = {text: number for number, text in enumerate([*alphabet, *words])}
    merges = [(word[:-1], word[-1]) for word in words]
    tokenizer = Tokenizer(models.BPE(vocab=entries, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END, normalized=False)])
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(TEMPLATE)


def _words() -> itertools.chain[str]:
    """Each one's beginning comes before it."""
    return itertools.chain.from_iterable(
        map("".join, itertools.product(string.ascii_lowercase, repeat=length))
        for length in itertools.count(2)
    )
