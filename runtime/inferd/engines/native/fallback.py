"""Decoders outside the native list, on transformers' modelling code over our paged cache.

Nothing here is specific to an architecture. What a model asks of attention is found by running
it on the meta device, before its weights are read; whether the answer is right, by comparing it
with the model's own eager attention afterwards (`fallback_checks`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig
from transformers.utils import logging
from transformers.utils.generic import ModelOutput

from inferd.engines.base import Progress
from inferd.engines.native import fallback_checks as checks
from inferd.engines.native.fallback_attention import NAME, forward_pass
from inferd.engines.native.fallback_checks import Causal
from inferd.engines.native.memory import weight_bytes
from inferd.engines.native.model import Batch, KVSpec
from inferd.errors import StartError
from inferd_kernels.lora import LoraSegments


@dataclass
class States(ModelOutput):
    """What any decoder's layers may return; heads read the states and pass on the rest."""

    last_hidden_state: torch.Tensor | None = None  # [1, N, hidden]
    past_key_values: None = None
    hidden_states: None = None
    attentions: None = None
    cross_attentions: None = None
    router_logits: None = None


class GivenStates(torch.nn.Module):
    """Stands in for the layers, so that the model's own code turns given states into logits."""

    def __init__(self) -> None:
        super().__init__()
        self.states: torch.Tensor | None = None

    @property
    def decoder(self) -> GivenStates:
        """Heads that call `model.decoder` (OPT) find the same."""
        return self

    def forward(self, *_args: Any, **_options: Any) -> States:
        return States(last_hidden_state=self.states)


class TransformersModel:
    """A `Model` made of a transformers model. Takes it over: its layers are moved out of it.

    Args:
        kv_specs: one per attention call of a forward pass, in order.
    """

    runner = "transformers"
    quantization = ""
    quantization_loss = None

    def __init__(self, causal: Causal, kv_specs: tuple[KVSpec, ...], max_position: int) -> None:
        self.architecture = type(causal).__name__
        self.kv_specs = kv_specs
        self.max_position = max_position
        self.vocab_size: int = causal.get_output_embeddings().weight.shape[0]
        self.dtype: torch.dtype = causal.dtype
        self.device: torch.device = causal.device
        self.weights = [*causal.parameters(), *causal.buffers()]
        self.weight_bytes = sum(parameter.nbytes for parameter in causal.parameters())
        self.adaptable = None
        prefix = causal.base_model_prefix
        self._layers = getattr(causal, prefix)
        self._head = causal
        self._given = GivenStates()
        setattr(causal, prefix, self._given)

    def forward(self, batch: Batch) -> torch.Tensor:
        with forward_pass(batch):
            output = self._layers(
                input_ids=batch.input_ids[None],
                position_ids=batch.positions[None],
                use_cache=False,
            )
        states: torch.Tensor = output[0][0]
        return states

    def logits(self, hidden: torch.Tensor, _segments: LoraSegments | None = None) -> torch.Tensor:
        self._given.states = hidden[None]
        nothing = torch.zeros((1, len(hidden)), dtype=torch.int64, device=hidden.device)
        output = self._head(input_ids=nothing, use_cache=False)
        self._given.states = None
        logits: torch.Tensor = output.logits[0].float()
        return logits


def load_fallback(
    folder: Path,
    *,
    dtype: torch.dtype | None,
    device: torch.device,
    on_progress: Callable[[Progress], None],
) -> TransformersModel:
    """Load any decoder-only model that transformers can run and our attention can serve.

    Raises: StartError(unsupported), naming the model and the reason, before weights are read
        where that can be known; StartError(bad_weights).
    """
    config, kv_specs = examine(folder)
    total = weight_bytes(folder, dtype)
    on_progress(Progress("weights", 0, total))
    causal = load_weights(folder, config, dtype).to(device).eval()
    on_progress(Progress("weights", total, total))
    with checks.own_code(config, "a probe"):
        expected = checks.expected_logprobs(causal)
        model = TransformersModel(causal, kv_specs, checks.context_length(config))
        checks.self_check(model, expected, config)
    return model


def examine(folder: Path) -> tuple[PreTrainedConfig, tuple[KVSpec, ...]]:
    """A model's configuration, and one KVSpec per attention call; reads no weights.

    Raises: StartError(unsupported).
    """
    config = read_config(folder)
    checks.check_config(config)
    with checks.own_code(config, "building it without weights"):
        empty = empty_model(config)
    calls = checks.dry_run(empty)
    checks.check_calls(config, calls)
    return config, tuple(call.kv for call in calls)


def read_config(folder: Path) -> PreTrainedConfig:
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # a config's code may raise anything
        if "trust_remote_code" in str(error):
            raise StartError(
                "unsupported",
                "This model runs only with code of its own, which comes with its weights and is "
                "never run",
                hint="Use a version of it in an architecture that transformers knows.",
                log=repr(error),
            ) from error
        raise StartError(
            "unsupported", f"transformers cannot read this config.json: {error}", log=repr(error)
        ) from error
    return config


def empty_model(config: PreTrainedConfig) -> Causal:
    """The model without weights, on the meta device."""
    auto: Any = AutoModelForCausalLM
    with torch.device("meta"):
        return auto.from_config(
            config,
            attn_implementation=NAME,
            experts_implementation="batched_mm",  # others ask for values, which meta has not
            trust_remote_code=False,
        ).eval()


def load_weights(folder: Path, config: PreTrainedConfig, dtype: torch.dtype | None) -> Causal:
    """The model on the CPU, from safetensors only; a missing or misshapen weight is an error."""
    auto: Any = AutoModelForCausalLM
    own_logs: Any = logging
    own_logs.disable_progress_bar()  # ours reports the progress
    try:
        causal, info = auto.from_pretrained(
            folder,
            config=config,
            dtype="auto" if dtype is None else dtype,
            attn_implementation=NAME,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise StartError(
            "bad_weights", f"transformers cannot load the weights: {error}", log=repr(error)
        ) from error
    wrong = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if wrong:
        raise StartError(
            "bad_weights",
            f"{len(wrong)} weights are missing or of the wrong shape, the first is {wrong[0]}",
        )
    return causal
