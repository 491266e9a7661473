"""Train LoRA adapters that change the demo model's manner of speaking, with `peft`, on a CPU."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import Qwen3ForCausalLM

from benchmarks.demo_model.adapter_card import write_card
from benchmarks.demo_model.adapter_evaluation import measure
from benchmarks.demo_model.chat import Example
from benchmarks.demo_model.data import TURNS, dialogue
from benchmarks.demo_model.draw import Draw
from benchmarks.demo_model.styles import STYLES, Style
from benchmarks.demo_model.tokenizer import encode
from benchmarks.demo_model.train import Batch, Progress, Row, batches, summed_loss
from inferd import demo

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result, with the style and the number of threads."""

    rank: int = 8
    alpha: int = 16
    rslora: bool = False  # scale by alpha / sqrt(rank) instead of alpha / rank
    seed: int = 0
    steps: int = 320
    batches_per_step: int = 2
    tokens_per_batch: int = 2048
    lr: float = 0.003
    warmup: int = 20
    threads: int = 1


SETTINGS = {
    "pirate": Settings(steps=640),
    "json": Settings(rank=4, alpha=8, rslora=True, seed=1),
}
"""How each of STYLES is trained: of different ranks and scalings, as adapters in one batch are."""


def documents(style: Style, seed: int) -> Iterator[tuple[Example, bool]]:
    """The endless stream of dialogues in `style`, each with whether its last reply alone counts.

    Most are one turn, of any skill as often as of the others: what seldom comes would be forgotten.
    In some dialogues the earlier replies are ordinary ones: whoever changes to an adapter in the
    middle of a dialogue gets the style at once. Calls of tools stay as they are.
    """
    draw = Draw(seed)
    while True:
        example = draw.one(list(TURNS))(draw) if draw.chance(0.7) else dialogue(draw)
        switched = draw.chance(0.3)
        last = len(example.messages) - 1
        messages = [
            {**message, "content": style.apply(message["content"])}
            if _is_said(message) and (index == last or not switched)
            else message
            for index, message in enumerate(example.messages)
        ]
        yield replace(example, messages=messages), switched


def _is_said(message: dict[str, object]) -> bool:
    """Whether it is a reply in words, not a call."""
    return message["role"] == "assistant" and not message.get("tool_calls")


def rows(tokenizer: Tokenizer, style: Style, seed: int) -> Iterator[Row]:
    for example, switched in documents(style, seed):
        ids, learned = encode(tokenizer, example)
        if switched:
            last = len(learned) - learned[::-1].index(True)
            begin = last - learned[:last][::-1].index(False) if False in learned[:last] else 0
            learned = [wanted and index >= begin for index, wanted in enumerate(learned)]
        yield ids, learned


def adapted(settings: Settings) -> PeftModel:
    """The demo model in float32, frozen, with an adapter that does nothing yet."""
    base = Qwen3ForCausalLM.from_pretrained(demo.path(), dtype=torch.float32)
    base.set_attn_implementation("eager")  # faster for short rows on a CPU
    base.name_or_path = "demo"
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        use_rslora=settings.rslora,
        target_modules=TARGETS,
        base_model_name_or_path="demo",
    )
    model = get_peft_model(base, config)
    assert isinstance(model, PeftModel)
    return model


def train(style: Style, settings: Settings, folder: Path) -> PeftModel:
    """Train one adapter and write it, in bfloat16, to `folder`."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    tokenizer = Tokenizer.from_file(str(demo.path() / "tokenizer.json"))
    stream = batches(
        rows(tokenizer, style, settings.seed + 1), settings.tokens_per_batch, settings.seed
    )
    model, progress = adapted(settings), Progress()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    stepper = torch.optim.AdamW(weights, lr=settings.lr, weight_decay=0.0)
    run: dict[str, float] = {}
    for step in range(settings.steps):
        share = min((step + 1) / settings.warmup, 1 - step / settings.steps)
        for group in stepper.param_groups:
            group["lr"] = settings.lr * share
        _step(model, stream, settings, progress)
        nn.utils.clip_grad_norm_(weights, 1.0)
        stepper.step()
        stepper.zero_grad()
        if (step + 1) % 25 == 0 or step + 1 == settings.steps:
            run = progress.report(step + 1)
    _save(model, settings, run, folder)
    return model


def _step(
    model: PeftModel, stream: Iterator[Batch], settings: Settings, progress: Progress
) -> None:
    """The gradients of the mean loss over some batches' learned tokens."""
    base = model.get_base_model()
    assert isinstance(base, Qwen3ForCausalLM)
    chosen = [next(stream) for _ in range(settings.batches_per_step)]
    learned = sum(int(wanted[:, 1:].sum()) for _, wanted in chosen)
    for ids, wanted in chosen:
        loss = summed_loss(base, ids, wanted)
        (loss / learned).backward()  # type: ignore[no-untyped-call]
        progress.add(ids.numel(), int(wanted[:, 1:].sum()), float(loss.detach()))


def _save(model: PeftModel, settings: Settings, run: dict[str, float], folder: Path) -> None:
    """adapter_config.json, adapter_model.safetensors and the record of the run."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in get_peft_model_state_dict(model, save_embedding_layers=False).items()
    }
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = model.peft_config["default"].to_dict()
    config |= {"inference_mode": True, "target_modules": TARGETS}  # peft keeps them in a set
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    record = {"settings": asdict(settings), "run": run}
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--style", action="append", choices=sorted(STYLES), help="default: all")
    parser.add_argument("--out", type=Path, default=demo.path() / "adapters")
    parser.add_argument("--steps", type=int, help="instead of the style's own number")
    parser.add_argument("--count", type=int, default=25, help="held-out examples per skill")
    parser.add_argument("--evaluate", action="store_true", help="measure only, what is there")
    options = parser.parse_args()
    for name in options.style or STYLES:
        settings, folder = SETTINGS[name], options.out / name
        if options.steps is not None:
            settings = replace(settings, steps=options.steps)
        if not options.evaluate:
            train(STYLES[name], settings, folder)
        measure(STYLES[name], folder, options.count)
        write_card(STYLES[name], folder)


if __name__ == "__main__":
    main()
