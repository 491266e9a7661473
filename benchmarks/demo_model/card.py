"""The demo model's card: README.md, written from the records of its training and evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.demo_model.facts import fact_count

_HEAD = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---
# inferd demo model

A very small language model that comes with inferd, so that every part of the daemon can be tried
without a download. It greets, adds small numbers, spells, recalls some facts, extracts JSON, calls
tools and tells little stories. It knows nothing else: it is a demonstration, not an assistant.

- Architecture: Qwen3 (`Qwen3ForCausalLM`), {parameters:.1f} million parameters, tied embeddings;
  {layers} layers, hidden size {hidden}, {heads} heads over {kv_heads} KV heads, MLP {mlp}.
- Weights: bfloat16, {megabytes:.1f} MB.
- Tokenizer: byte-level BPE, {vocabulary} entries; every digit and every capital stands alone.
- Dialogue format: ChatML, tools as in Hermes (`<tool_call>`, `<tool_response>`).
- Positions: the config allows {positions}; 99% of the training documents have fewer than
  500 tokens, so the quality of longer dialogues is not known.
"""

_DATA = """
## Training

All text is synthetic, made by `benchmarks/demo_model` from a seed; nothing was downloaded and no
person's text was used. {facts} facts and the word lists stand in its source. `scripts/train_demo`
trains it anew. On the same kind of machine, with the same number of threads and the same versions
the run is repeatable up to the order of floating-point sums.
"""

_LIMITS = """
## Limits

- English only; short, simple sentences near to those of its training. Elsewhere it says that it
  does not know, or is wrong and sounds certain.
- Arithmetic: whole numbers from 0 to 99 (products up to 12 times 12).
- Spelling, capitals and the copying of long or rare words go wrong often, as the table shows.
- Tools: names like `verb_noun` with one to three string or number parameters, up to four tools.
  Nested objects and arrays were never in its training. Words of the question that no parameter
  asks for may still become an argument.
- It was not trained for safety, and holds no private or personal data.
"""

_RUN = """
One run: {step} of {steps} steps, {read:.1f} million tokens read (padding too), of which
{learned:.1f} million learned (the assistant's own words and plain texts), in {minutes:.0f} minutes
with {threads} threads of a CPU that other work shared ({rate} tokens/s on average). Muon for the
layers' matrices (peak rate {muon_lr}), AdamW for the rest ({adam_lr}), bfloat16 products over
float32 weights, seed {seed}; {warmup} steps of warm-up, a plateau, and a linear cool-down over the
last {cooldown:.0%}. Training loss over the last steps: {loss:.3f} nats per token.
"""

_MEASURED = """
## Accuracy on held-out items

Greedy decoding in float32 through the chat template, {examples_per_skill} examples per skill, seed
{seed}. A reply counts when it is exactly the reference (for small talk one of the known answers;
for stories the hero asked for and a proper end) and the model stopped by itself. Held out are
number pairs, words, names, tools (verb and noun together), wordings of small talk, and for facts
and products the pairing of a fact with a way to ask for it (the fact itself is in the training).
Each skill has its own split: a word held out of one skill may occur in the training of another.

| Skill | Right |
|---|---|"""


def _training(record: dict[str, Any]) -> str:
    settings, run = record["settings"], record["run"]
    return _RUN.format(
        **settings,
        step=run["step"],
        read=run["tokens"] / 1e6,
        learned=run["learned_tokens"] / 1e6,
        minutes=run["seconds"] / 60,
        rate=run["tokens_per_second"],
        loss=run["loss"],
    )


def _accuracy(record: dict[str, Any]) -> str:
    lines = [_MEASURED.format(**record)]
    lines += [f"| {name} | {share:.1%} |" for name, share in record["accuracy"].items()]
    return "\n".join(lines) + "\n"


def write_card(folder: Path) -> None:
    """Write README.md from config.json, training.json and, where there is one, accuracy.json."""
    config = json.loads((folder / "config.json").read_text())
    size = (folder / "model.safetensors").stat().st_size
    text = _HEAD.format(
        parameters=size / 2 / 1e6,
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        mlp=config["intermediate_size"],
        megabytes=size / 1e6,
        vocabulary=config["vocab_size"],
        positions=config["max_position_embeddings"],
    )
    text += _DATA.format(facts=fact_count())
    text += _training(json.loads((folder / "training.json").read_text()))
    measured = folder / "accuracy.json"
    if measured.is_file():
        text += _accuracy(json.loads(measured.read_text()))
    (folder / "README.md").write_text(text + _LIMITS)
