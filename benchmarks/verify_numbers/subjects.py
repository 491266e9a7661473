"""The models that are verified: a tiny random one of every architecture and variant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.verify_numbers.trials import Subject
from inferd.engines.native.decoder import Decoder, load_decoder
from inferd.engines.native.fallback import load_fallback
from tests.engines.native import tiny, tiny_fallback
from tests.engines.native.adapters import made

LIMIT = 64  # tokens
SHORT = {"phi3-longrope": 32}
"""Limits of their own: transformers changes longrope's factors with every text's length; an
engine has one set, that of the context it serves, so texts stay within the shorter one."""

NATIVE = tuple(tiny.CASES)
FALLBACK = ("llama", *tiny_fallback.CASES)  # Llama too: both runners must agree on it
ADAPTED = ("llama", "llama-bias-tied", "qwen2", "qwen3", "phi3", "gemma", "gemma3", "granite")
CPU = torch.device("cpu")


def native(case: str, folder: Path, device: torch.device = CPU) -> Subject:
    """A case of `tiny` on the native decoder."""
    limit = SHORT.get(case, LIMIT)
    tiny.write_checkpoint(case, folder)
    model = load(folder, torch.float32, device, limit)
    return Subject(model, tiny.reference(folder).to(device), limit)


def load(folder: Path, dtype: torch.dtype, device: torch.device, limit: int) -> Decoder:
    """A checkpoint on the native decoder."""
    return load_decoder(
        folder,
        dtype=dtype,
        device=device,
        max_model_len=limit,
        on_progress=lambda done, total: None,
    )


def fallback(case: str, folder: Path, device: torch.device = CPU) -> Subject:
    """A case of `tiny_fallback` (or of `tiny`) on transformers' modelling code."""
    home = tiny_fallback if case in tiny_fallback.CASES else tiny
    home.write_checkpoint(case, folder)
    model = load_fallback(folder, dtype=None, device=device, on_progress=lambda progress: None)
    return Subject(model, tiny.reference(folder).to(device), LIMIT)


def adapted(case: str, folder: Path, device: torch.device = CPU) -> Subject:
    """A case of `tiny` on the native decoder, with eight adapters that PEFT made."""
    subject = native(case, folder / "model", device)
    configs = made.FUSED if case.startswith("phi3") else made.EIGHT
    adapters = {
        f"adapter{n}": made.write_adapter(
            folder / "model", folder / f"adapter{n}", seed=n, **config
        )
        for n, config in enumerate(configs)
    }
    reference = made.reference(folder / "model", adapters).to(device)
    return replace(subject, reference=reference, adapters=adapters)
