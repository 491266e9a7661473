"""Train the demo model on synthetic text, on a CPU or a GPU, and export checkpoints."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen3ForCausalLM

from benchmarks.demo_model.card import write_card
from benchmarks.demo_model.data import documents
from benchmarks.demo_model.model import build_model, export
from benchmarks.demo_model.tokenizer import encode, train_tokenizer

Row = tuple[list[int], list[bool]]  # a document's ids, and which of them are learned
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result, with the seed and the number of threads."""

    seed: int = 0
    hidden: int = 256
    layers: int = 6
    mlp: int = 768
    heads: int = 4
    steps: int = 2600
    batches_per_step: int = 3
    tokens_per_batch: int = 2048
    muon_lr: float = 0.02
    adam_lr: float = 0.003
    warmup: int = 50
    cooldown: float = 0.4
    threads: int = 2
    compiled: int = 1


def batches(
    rows: Iterator[Row], tokens_per_batch: int, seed: int, window: int = 1024
) -> Iterator[Batch]:
    """Right-padded rows of like length: ids int64[rows, length], learned bool of the same shape.

    A row is one document, so nothing attends across documents, and causal attention never sees
    the padding; sorting within a window keeps the padding to a few percent.
    """
    order = torch.Generator().manual_seed(seed)
    while True:
        taken = sorted((next(rows) for _ in range(window)), key=lambda row: len(row[0]))
        groups: list[list[Row]] = [[]]
        for row in taken:
            if (len(groups[-1]) + 1) * len(row[0]) > tokens_per_batch and groups[-1]:
                groups.append([])
            groups[-1].append(row)
        for index in torch.randperm(len(groups), generator=order).tolist():
            yield _padded(groups[index])


def _padded(rows: list[Row]) -> Batch:
    shape = len(rows), max(len(ids) for ids, _ in rows)
    ids, learned = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    for index, (row, wanted) in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        learned[index, : len(row)] = torch.tensor(wanted)
    return ids, learned


def summed_loss(model: Qwen3ForCausalLM, ids: Tensor, learned: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over the learned tokens; other positions skip the LM head."""
    with torch.autocast(ids.device.type, dtype=torch.bfloat16):
        hidden = model.model(ids[:, :-1], use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[learned[:, 1:]])
    return functional.cross_entropy(logits.float(), ids[:, 1:][learned[:, 1:]], reduction="sum")


def optimizers(model: Qwen3ForCausalLM, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices of the layers, AdamW for all else."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    known = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in known]
    return [
        torch.optim.Muon(matrices, lr=settings.muon_lr, weight_decay=0.01),
        torch.optim.AdamW(
            others, lr=settings.adam_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        ),
    ]


def rate(step: int, settings: Settings) -> float:
    """Share of the peak learning rate: warm-up, plateau, then linear cool-down to zero."""
    rest = (settings.steps - step) / (settings.cooldown * settings.steps)
    return min(1.0, (step + 1) / settings.warmup, rest)


class Progress:
    """Counts tokens and time, and writes one line of JSON per report."""

    def __init__(self) -> None:
        self.tokens = self.learned = 0
        self.started = time.monotonic()
        self._loss, self._since = 0.0, 0

    def add(self, tokens: int, learned: int, loss: float) -> None:
        self.tokens += tokens
        self.learned += learned
        self._loss += loss
        self._since += learned

    def report(self, step: int) -> dict[str, float]:
        seconds = time.monotonic() - self.started
        figures = {
            "step": step,
            "loss": round(self._loss / max(1, self._since), 4),
            "tokens": self.tokens,
            "learned_tokens": self.learned,
            "seconds": round(seconds, 1),
            "tokens_per_second": round(self.tokens / seconds),
        }
        self._loss, self._since = 0.0, 0
        print(json.dumps(figures), flush=True)
        return figures


def save(
    model: Qwen3ForCausalLM, tokenizer: Tokenizer, settings: Settings, run: dict[str, float],
    folder: Path,
) -> None:  # fmt: skip
    """Export a checkpoint with the record of its run."""
    export(model, tokenizer, folder)
    record = {"settings": asdict(settings), "run": run}
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n")


def train(settings: Settings, folder: Path, checkpoints: Path | None, every: float) -> None:
    """Train from nothing; write the model to `folder`, and every `every` seconds a checkpoint."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = train_tokenizer(settings.seed)
    model = build_model(tokenizer, settings.hidden, settings.layers, settings.mlp, settings.heads)
    nn.Module.to(model, device)
    if settings.compiled:
        model.model.compile(dynamic=True)
    print(f"{sum(p.numel() for p in model.parameters())} parameters on {device}", flush=True)
    rows = (encode(tokenizer, example) for example in documents(settings.seed + 1))
    stream = batches(rows, settings.tokens_per_batch, settings.seed)
    steppers = optimizers(model, settings)
    peaks = [group["lr"] for stepper in steppers for group in stepper.param_groups]
    progress, saved = Progress(), time.monotonic()
    for step in range(settings.steps):
        _step(model, stream, steppers, settings, progress, rate(step, settings), peaks)
        if (step + 1) % 25 == 0 or step + 1 == settings.steps:
            run = progress.report(step + 1)
            if checkpoints is not None and time.monotonic() - saved > every:
                save(model, tokenizer, settings, run, checkpoints / f"step-{step + 1}")
                saved = time.monotonic()
    save(model, tokenizer, settings, run, folder)


def _step(
    model: Qwen3ForCausalLM, stream: Iterator[Batch], steppers: list[torch.optim.Optimizer],
    settings: Settings, progress: Progress, share: float, peaks: list[float],
) -> None:  # fmt: skip
    """One optimizer step over some batches, its loss the mean over all learned tokens."""
    device = model.device
    chosen = [next(stream) for _ in range(settings.batches_per_step)]
    learned = sum(int(wanted[:, 1:].sum()) for _, wanted in chosen)
    for ids, wanted in chosen:
        loss = summed_loss(model, ids.to(device), wanted.to(device))
        (loss / learned).backward()  # type: ignore[no-untyped-call]
        progress.add(ids.numel(), int(wanted[:, 1:].sum()), float(loss.detach()))
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    groups = [group for stepper in steppers for group in stepper.param_groups]
    for group, peak in zip(groups, peaks, strict=True):
        group["lr"] = peak * share
    for stepper in steppers:
        stepper.step()
        stepper.zero_grad()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    root = Path(__file__).resolve().parents[2]
    parser.add_argument("--out", type=Path, default=root / "runtime" / "inferd" / "demo")
    parser.add_argument("--checkpoints", type=Path, help="folder for checkpoints along the way")
    parser.add_argument("--every", type=float, default=300.0, help="seconds between checkpoints")
    options = vars(parser.parse_args())
    folder, checkpoints = options.pop("out"), options.pop("checkpoints")
    every = options.pop("every")
    train(Settings(**options), folder, checkpoints, every)
    write_card(folder)


if __name__ == "__main__":
    main()
