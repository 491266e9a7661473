"""A demo adapter's card: README.md, written from the records of its training and evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.demo_model.styles import Style

_CARD = """---
license: apache-2.0
language: en
library_name: peft
base_model: demo
tags: [lora]
---
# inferd demo adapter `{name}`

A LoRA adapter for the inferd demo model: {about}. It comes with inferd, so that adapters can be
tried without a download.

- Rank {rank}, alpha {alpha}, scaled by alpha / {root}; on q, k, v, o, gate, up and down of all
  layers; bfloat16, {kilobytes:.0f} kB.
- Made by `scripts/train_demo_adapters` from the base model's own synthetic dialogues with the
  replies rewritten by `benchmarks/demo_model/styles.py`. Calls of tools stay as they are.
- One run: {step} steps of AdamW (peak rate {lr}), {tokens} tokens read, seed {seed}, in
  {minutes:.0f} minutes with {threads} thread(s) of a CPU that other work shared. Training loss over
  the last steps: {loss:.3f} nats per token.

Greedy replies, {examples_per_skill} held-out examples per skill of the base model:

| | |
|---|---|
| the style shows | {shows:.1%} |
| the style shows, prompts unlike any in the training | {shows_on_strange_prompts:.1%} |
| the reply is exactly the right one, in the style | {right:.1%} |
| a call of a tool is exactly the right one | {calls:.1%} |
"""


def write_card(style: Style, folder: Path) -> None:
    training = _read(folder / "training.json")
    settings = training["settings"]
    text = _CARD.format(
        name=style.name,
        about=style.about,
        root="√rank" if settings["rslora"] else "rank",
        kilobytes=(folder / "adapter_model.safetensors").stat().st_size / 1e3,
        minutes=training["run"]["seconds"] / 60,
        **{key: value for key, value in settings.items() if key != "seed"},
        **{key: training["run"][key] for key in ("step", "tokens", "loss")},
        **_read(folder / "accuracy.json") | {"seed": settings["seed"]},
    )
    (folder / "README.md").write_text(text)


def _read(path: Path) -> dict[str, Any]:
    record = json.loads(path.read_text())
    assert isinstance(record, dict)
    return record
