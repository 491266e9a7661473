"""Between the service and an engine, in token ids: sampling, commands and events.

It crosses the process border as msgpack (see `engines/base`).
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

FinishReason = Literal["stop", "length", "abort"]
LogprobsMode = Literal["raw", "processed"]


class Sampling(Struct, frozen=True, omit_defaults=True):
    """How tokens are chosen from logits; complete, so that an engine needs no defaults.

    A token is a pure function of (logits, these fields, its position). Ranges are checked by
    the service before this is built.
    """

    temperature: float = 1.0  # 0: greedy
    top_k: int = 0  # 0: off
    top_p: float = 1.0
    min_p: float = 0.0
    presence_penalty: float = 0.0  # subtracted once from every token already in the output
    frequency_penalty: float = 0.0  # subtracted per occurrence in the output
    repetition_penalty: float = 1.0  # CTRL (arXiv 1909.05858), over prompt and output
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, added to its logit)
    seed: int = 0  # 0 ≤ seed < 2**64; always set by the service
    min_tokens: int = 0  # `stop_token_ids` are masked until so many output tokens exist
    stop_token_ids: tuple[int, ...] = ()  # end the sequence; includes EOS unless ignored
    logprobs: int | None = None  # None: none; k: the chosen token's and the top k (0 ≤ k ≤ 20)
    prompt_logprobs: int | None = None  # the same for every prompt token but the first
    logprob_token_ids: tuple[int, ...] = ()  # with logprobs: these tokens' as well, at each step
    logprobs_mode: LogprobsMode = "raw"


class Submit(Struct, frozen=True, tag="submit", omit_defaults=True):
    """One sequence to generate. n > 1 is n of these."""

    request_id: str
    prompt: tuple[int, ...]  # at least one token
    max_tokens: int  # output tokens, counting those in `output`; ≥ 1
    sampling: Sampling
    output: tuple[int, ...] = ()  # already generated elsewhere: generation resumes after them
    caller: str = ""  # fair share is by caller
    priority: int = 0  # smaller first
    cache_salt: str = ""  # prefixes are shared only within one salt (a tenant)
    grammar: str = ""  # llguidance's Lark: the output must be in its language; "": anything goes
    adapter: str = ""  # the generation, which the engine holds, to run with; "": the bare model


class Abort(Struct, frozen=True, tag="abort"):
    """Stop a sequence; answered by `Finish(reason="abort")` unless it already ended."""

    request_id: str


class LoadAdapter(Struct, frozen=True, tag="load_adapter"):
    """Hold an adapter's generation; answered by `AdapterInfo` or `AdapterFailed`.

    `folder` holds `adapter_config.json` and `adapter_model.safetensors` (PEFT's format), and does
    not change for as long as the generation is held.
    """

    adapter: str  # the generation's id
    folder: str


class DropAdapter(Struct, frozen=True, tag="drop_adapter"):
    """Hold it no longer: what runs with it goes on, and its memory returns when that has ended.
    Unknown ids are ignored. Answered by `AdapterDropped` when nothing of it is left."""

    adapter: str


class AdapterInfo(Struct, frozen=True, tag="adapter"):
    """A generation that the engine holds and has found to fit its model."""

    adapter: str
    rank: int  # the largest of its modules
    num_bytes: int  # of its weights in the engine's dtype
    modules: tuple[str, ...]  # kinds of layers it changes: `q_proj`, `embed_tokens`, …


AdapterFailCode = Literal["invalid", "unsupported", "out_of_memory", "engine"]


class AdapterFailed(Struct, frozen=True, tag="adapter_failed", omit_defaults=True):
    """A generation that the engine does not hold. `message` says which tensor or field, and why."""

    adapter: str
    code: AdapterFailCode
    message: str
    log: str = ""


class AdapterDropped(Struct, frozen=True, tag="adapter_dropped"):
    adapter: str


SleepLevel = Literal[1, 2]
"""1: the weights stay in host memory; KV cache, adapters' slots and workspaces are given back.
2: only the recipe stays; there is no process."""


class Sleep(Struct, frozen=True, tag="sleep"):
    """Sleep at level 1. Answered by `Slept`. Nothing may run or wait, and nothing may be
    submitted until `Awake` came."""


class Wake(Struct, frozen=True, tag="wake"):
    """Be as before `Sleep`, with an empty KV cache. Answered by `Awake`."""


class MemoryUse(Struct, frozen=True, omit_defaults=True):
    """Bytes that an engine holds, by part. Host memory where the device is the CPU."""

    weights: int = 0
    kv_cache: int = 0
    adapters: int = 0  # in slots, and in host memory
    workspace: int = 0  # a largest step's activations, graphs
    process: int = 0  # interpreter, libraries and whatever else is not told apart
    measured: int = 0  # of the whole process, by the system (host) or the driver (device)


class Slept(Struct, frozen=True, tag="slept"):
    memory: MemoryUse


class Awake(Struct, frozen=True, tag="awake"):
    memory: MemoryUse


class Logprob(Struct, frozen=True, array_like=True):
    """Float32 log-softmax of one position.

    `rank` is 1 for the most likely token. `top` holds (token id, logprob), most likely first;
    `extra` the same for `Sampling.logprob_token_ids`, in their order.
    """

    token_id: int
    logprob: float
    rank: int
    top: tuple[tuple[int, float], ...] = ()
    extra: tuple[tuple[int, float], ...] = ()


class Begun(Struct, frozen=True, array_like=True):
    """How a sequence came to its first token."""

    queued_s: float  # submit → first scheduled
    prefill_s: float  # first scheduled → first token
    cached_tokens: int = 0  # prompt tokens whose KV came from the prefix cache


class Tokens(Struct, frozen=True, tag="tokens", omit_defaults=True):
    """New output tokens of one sequence, in order; never empty."""

    request_id: str
    token_ids: tuple[int, ...]
    logprobs: tuple[Logprob, ...] = ()  # one per token when asked for, else empty
    begun: Begun | None = None  # with the sequence's first tokens only


class PromptScored(Struct, frozen=True, tag="prompt"):
    """Logprobs of prompt tokens 1…; sent once, before the first `Tokens`."""

    request_id: str
    logprobs: tuple[Logprob, ...]  # len(prompt) - 1 of them; the first token has none


class Finish(Struct, frozen=True, tag="finish", omit_defaults=True):
    """The terminal event of a sequence that ended well, or was aborted."""

    request_id: str
    reason: FinishReason
    stop_token_id: int | None = None  # the stop token that ended it (it is among the tokens)
    decode_s: float = 0.0  # first token → last
    preemptions: int = 0


FailCode = Literal["invalid", "too_long", "overloaded", "capacity", "engine", "dead"]


class Fail(Struct, frozen=True, tag="fail", omit_defaults=True):
    """The terminal event of a sequence that could not be served.

    `too_long` and `overloaded` come before any token, and so does `invalid`, unless a `grammar`
    turns out to be a dead end or too complex to follow; `capacity` means the sequence outgrew
    the KV pool. `message` is for the client, `log` for the operator. `param` names the field of
    `Submit` at fault, where one is.
    """

    request_id: str
    code: FailCode
    message: str
    log: str = ""
    param: str = ""


Event = Tokens | PromptScored | Finish | Fail


class QuantizationLoss(Struct, frozen=True):
    """How far a short text's logprobs are from those of the same weights in float32."""

    tokens: int  # that were compared
    mean: float  # of |Δ logprob|, of the text's own tokens
    most: float
    agreement: float  # share of tokens after which the likeliest one is the same


class EngineInfo(Struct, frozen=True, tag="info"):
    """What a running engine is; constant while it runs."""

    engine: str  # `native`, `echo`
    architecture: str  # e.g. `Qwen3ForCausalLM`
    runner: str  # `native`, `transformers`, `echo`: which code runs the model
    vocab_size: int
    max_model_len: int  # tokens, prompt and output together
    max_batch_size: int
    max_batch_tokens: int
    block_size: int  # tokens
    num_blocks: int
    dtype: str
    device: str
    weight_bytes: int
    kv_cache_bytes: int
    load_s: float  # seconds from process start to ready
    memory: MemoryUse = MemoryUse()  # as measured after the start
    max_adapters: int = 0  # slots; 0: the engine takes no adapters
    max_adapter_rank: int = 0
    quantization: str = ""  # `int8`; empty: weights are in `dtype`
    quantization_loss: QuantizationLoss | None = None  # None: not measured
    kernels: str = "reference"  # `avx512bf16`, …: C++ kernels'; `triton 3.6.0`; or torch
    deterministic: bool = False  # promised: see `EngineSpec`


class EngineStats(Struct, frozen=True, tag="stats", omit_defaults=True):
    """Counts since the engine started, and gauges as of now."""

    running: int = 0
    waiting: int = 0
    kv_blocks_used: int = 0  # held by sequences; cached but unreferenced blocks are free
    kv_blocks_total: int = 0
    steps: int = 0
    preemptions: int = 0
    prefix_queries: int = 0  # tokens
    prefix_hits: int = 0  # tokens
    prompt_tokens: int = 0
    output_tokens: int = 0
    memory: MemoryUse = MemoryUse()
    adapters_held: int = 0
    adapters_in_slots: int = 0
    adapter_loads: int = 0  # into slots
    adapter_evictions: int = 0  # from slots
