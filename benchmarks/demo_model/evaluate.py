"""Accuracy of an exported model on held-out items, by greedy decoding and exact match per skill."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.demo_model.card import write_card
from benchmarks.demo_model.chat import Example, reply_text
from benchmarks.demo_model.data import SKILLS
from benchmarks.demo_model.draw import Draw

MAX_NEW_TOKENS = 220
Model = Any  # transformers types `generate` for a protocol that its own models do not meet
Tokenizer = Any  # and its tokenizers as a union of back ends


def load(folder: Path) -> tuple[Model, Tokenizer]:
    """The model in float32 (of its bfloat16 weights), and its tokenizer set up for batches."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, tokenizer


def replies(model: Model, tokenizer: Tokenizer, prompts: list[str]) -> list[str]:
    """Greedy continuations, with whatever special tokens they hold, up to MAX_NEW_TOKENS."""
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    made = model.generate(**batch, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
    texts = tokenizer.batch_decode(made[:, batch["input_ids"].shape[1] :])
    return [text.replace("<|endoftext|>", "") for text in texts]


def prompt_of(tokenizer: Tokenizer, example: Example) -> str:
    """All but the last assistant message, through the chat template."""
    text = tokenizer.apply_chat_template(
        example.messages[:-1],
        tools=example.tools or None,
        tokenize=False,
        add_generation_prompt=True,
    )
    assert isinstance(text, str)
    return text


def is_right(example: Example, reply: str) -> bool:
    """Whether the model stopped by itself and said the reference (or an accepted) reply."""
    if not reply.endswith("<|im_end|>"):
        return False
    said = reply.removesuffix("<|im_end|>")
    if example.accept is not None:
        return example.accept(said)
    return said == reply_text(example.messages[-1])


def measure(
    folder: Path, count: int, seed: int, names: list[str], shown: int = 0
) -> dict[str, float]:
    """Share of right replies for each skill in `names`, over `count` held-out examples."""
    model, tokenizer = load(folder)
    scores = {}
    for name in names:
        draw = Draw(seed, held_out=True)
        examples = [draw.example(SKILLS[name]) for _ in range(count)]
        right = []
        for start in range(0, count, 25):
            part = examples[start : start + 25]
            said = replies(model, tokenizer, [prompt_of(tokenizer, e) for e in part])
            right += [is_right(e, reply) for e, reply in zip(part, said, strict=True)]
            for example, reply in zip(part, said, strict=True):
                if shown > 0 and not is_right(example, reply):
                    shown -= 1
                    asked = [m["content"] for m in example.messages[:-1]]
                    print(f"  {asked}\n    wanted {reply_text(example.messages[-1])!r}")
                    print(f"    got    {reply!r}")
        scores[name] = sum(right) / count
        print(f"{scores[name]:7.1%}  {name}", flush=True)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    root = Path(__file__).resolve().parents[2]
    parser.add_argument("--folder", type=Path, default=root / "runtime" / "inferd" / "demo")
    parser.add_argument("--count", type=int, default=200, help="held-out examples per skill")
    parser.add_argument("--seed", type=int, default=12345)
    parser.add_argument("--skill", action="append", choices=sorted(SKILLS), help="default: all")
    parser.add_argument("--show", type=int, default=0, help="wrong replies to print")
    parser.add_argument("--write", action="store_true", help="keep the figures, renew the card")
    options = parser.parse_args()
    names = options.skill or list(SKILLS)
    scores = measure(options.folder, options.count, options.seed, names, options.show)
    if options.write:
        record = {"examples_per_skill": options.count, "seed": options.seed, "accuracy": scores}
        (options.folder / "accuracy.json").write_text(json.dumps(record, indent=2) + "\n")
        write_card(options.folder)


if __name__ == "__main__":
    main()
