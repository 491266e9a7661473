"""Whether a transformers model can run on our attention: by its config, a dry run and a probe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from transformers import PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from inferd.engines.native.batching import allocate_kv
from inferd.engines.native.device_batching import SCRATCH_BLOCKS, batcher_for
from inferd.engines.native.fallback_attention import LayerCall, forward_pass
from inferd.engines.native.model import Model
from inferd.errors import StartError
from inferd_scheduler import Step, Work

Causal: TypeAlias = Any
"""A transformers causal language model, whose own annotations do not describe it."""

ATTENTION_LAYERS = {"full_attention", "sliding_attention", "attention"}
CHANGING_ROPES = {"dynamic", "longrope"}
NO_INTERFACE = "its code does not go through transformers' attention interface"
PROBE_LENGTHS = (13, 6)  # tokens of the two probed sequences
PROBE_CHUNK = 5  # tokens of the first sequence's first part
PROBE_BLOCK = 4  # tokens
TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.25}
"""Largest difference of a logprob of the chosen tokens that rounding explains, by dtype."""


def unsupported(config: PreTrainedConfig, reason: str, log: str = "") -> StartError:
    return StartError("unsupported", f"{name_of(config)} cannot run here: {reason}", log=log)


@contextmanager
def own_code(config: PreTrainedConfig, what: str) -> Iterator[None]:
    """A model's own code runs inside, which may raise anything: StartError(unsupported) then."""
    try:
        yield
    except (StartError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
        on_interface = getattr(model_class, "_supports_attention_backend", False)
        reason = f"{what} fails in its own code" if on_interface else NO_INTERFACE
        raise unsupported(config, reason, repr(error)) from error


def name_of(config: PreTrainedConfig) -> str:
    return (config.architectures or [type(config).__name__])[0]


def context_length(config: PreTrainedConfig) -> int:
    """Tokens. Raises StartError(unsupported) where the config does not say."""
    text = config.get_text_config()
    for key in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        length = getattr(text, key, None)
        if isinstance(length, int) and length > 0:
            return length
    raise unsupported(config, "its config.json does not say how long a context may be")


def check_config(config: PreTrainedConfig) -> None:
    """Refuse by config.json alone. Raises StartError(unsupported)."""
    text = config.get_text_config()
    if config.is_encoder_decoder or getattr(text, "add_cross_attention", False):
        raise unsupported(config, "it is not a decoder alone (it has an encoder)")
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise unsupported(config, "transformers has no causal language model for it")
    if getattr(config, "quantization_config", None) is not None:
        raise unsupported(config, "its weights are quantised")
    other = set(getattr(text, "layer_types", None) or ()) - ATTENTION_LAYERS
    if other:
        raise unsupported(config, f"it has layers of kind {', '.join(sorted(other))}")
    if _rope_types(text) & CHANGING_ROPES:
        raise unsupported(config, "its rotary angles change with the text's length")
    if getattr(text, "alibi", False):
        raise unsupported(config, "it needs ALiBi, which our attention lacks")
    if getattr(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], "_is_stateful", False):
        raise unsupported(config, "it keeps a state that is not attention's (state-space)")
    context_length(config)


def _rope_types(text: PreTrainedConfig) -> set[str]:
    """The kinds of rotary embedding, of all layers."""
    rope = getattr(text, "rope_parameters", None) or {}
    sections = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    return {str(section.get("rope_type")) for section in sections}


def dry_run(causal: Causal) -> list[LayerCall]:
    """What each layer asks of attention, found without weights."""
    layers: Any = getattr(causal, causal.base_model_prefix, causal)
    if layers is causal:
        raise unsupported(causal.config, "its layers cannot be told from its head")
    tokens = torch.zeros((1, 3), dtype=torch.int64, device="meta")
    with (
        own_code(causal.config, "a flat batch without a cache"),
        torch.no_grad(),
        forward_pass(None) as recorded,
    ):
        layers(input_ids=tokens, position_ids=tokens, use_cache=False)
    return recorded.calls


def check_calls(config: PreTrainedConfig, calls: list[LayerCall]) -> None:
    """Refuse by what the layers ask for. Raises StartError(unsupported)."""
    text = config.get_text_config()
    if not calls:
        raise unsupported(config, NO_INTERFACE)
    for i, call in enumerate(calls):
        if call.problem is not None:
            raise unsupported(config, f"attention call {i} needs {call.problem}")
    if len(calls) != text.num_hidden_layers:
        raise unsupported(
            config,
            f"it has {text.num_hidden_layers} layers and {len(calls)} of them are attention",
        )
    _check_windows(config, [call.window for call in calls])


def _check_windows(config: PreTrainedConfig, windows: list[int]) -> None:
    """Refuse code whose windows are only in its masks: the probe is too short to show that."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    if kinds is None:
        used = getattr(text, "sliding_window", None) and getattr(text, "use_sliding_window", True)
        if used and not any(windows):
            raise unsupported(config, "its sliding window does not reach the attention interface")
        return
    for i, (kind, window) in enumerate(zip(kinds, windows, strict=True)):
        if (kind == "sliding_attention") != (window > 0):
            raise unsupported(config, f"layer {i} is {kind} and asks for a window of {window}")


def probes(vocab_size: int) -> list[torch.Tensor]:
    """Token ids of the probed sequences."""
    return [
        (torch.arange(length) * 7919 + 104729 * (n + 1)) % vocab_size
        for n, length in enumerate(PROBE_LENGTHS)
    ]


@torch.inference_mode()
def expected_logprobs(causal: Causal) -> list[torch.Tensor]:
    """Log-softmax of each probe by the model's own eager attention, per probe [length, vocab]."""
    paged = causal.config._attn_implementation
    causal.set_attn_implementation("eager")
    vocab_size = causal.get_output_embeddings().weight.shape[0]
    expected = [
        causal(input_ids=tokens[None].to(causal.device), use_cache=False).logits[0]
        for tokens in probes(vocab_size)
    ]
    causal.set_attn_implementation(paged)
    return [logits.float().log_softmax(-1) for logits in expected]


@torch.inference_mode()
def self_check(model: Model, expected: list[torch.Tensor], config: PreTrainedConfig) -> None:
    """Run the probes in one paged batch, the first in two parts, and compare.

    Guards against code that is quietly wrong here: positions taken from elsewhere, a bias or a
    state that does not pass through the attention interface. Raises StartError(unsupported).
    """
    got = [part.log_softmax(-1) for part in _probe_logits(model)]
    likeliest = [logprobs.argmax(-1, keepdim=True) for logprobs in expected]
    error = max(
        float((a.gather(-1, i) - b.gather(-1, i)).abs().max())
        for a, b, i in zip(got, expected, likeliest, strict=True)
    )
    limit = TOLERANCE.get(model.dtype, 1e-3)
    if not error <= limit:  # NaN too
        raise unsupported(
            config,
            f"over the paged cache its logprobs differ by {error:.3g} from its own attention's "
            f"(allowed: {limit:g})",
        )


def _probe_logits(model: Model) -> list[torch.Tensor]:
    """The probes' logits, per probe [length, vocab]."""
    one, two = (tuple(probe.tolist()) for probe in probes(model.vocab_size))
    blocks = [-(-len(ids) // PROBE_BLOCK) for ids in (one, two)]
    num_blocks = sum(blocks) + SCRATCH_BLOCKS
    cache = allocate_kv(model.kv_specs, num_blocks, PROBE_BLOCK, model.dtype, model.device)
    batcher = batcher_for(model.device, cache, PROBE_BLOCK, 2, max(blocks), len(one) + len(two))
    # Backwards, so that no sequence's blocks are in order of position.
    table = tuple(reversed(range(sum(blocks))))
    head = Work("1", 0, 0, one[:PROBE_CHUNK], table[: blocks[0]], False, True)
    tail = Work("1", 0, PROBE_CHUNK, one[PROBE_CHUNK:], (), True, False)
    other = Work("2", 1, 0, two, table[blocks[0] :], True, True)
    steps = (
        Step(1, [head], len(head.tokens)),
        Step(2, [tail, other], len(tail.tokens) + len(other.tokens)),
    )
    logits = torch.cat([model.logits(model.forward(batcher.build(step))) for step in steps])
    return [logits[: len(one)], logits[len(one) :]]
