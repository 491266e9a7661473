"""Which requests can be served at all."""

from __future__ import annotations

from inferd_scheduler.config import SchedulerConfig
from inferd_scheduler.errors import Refused
from inferd_scheduler.request import Request, State

_TOKEN_IDS = 2**32  # the prefix keys hold ids in 32 bits


def check_request(request: Request, config: SchedulerConfig) -> None:
    """Raise `Refused` (`invalid`, `too_long`) if `request` could never run under `config`."""
    fault = _fault(request)
    if fault is None and request.adapter and not config.max_adapters:
        fault = "adapter: this model is served without adapters"
    if fault is not None:
        raise Refused("invalid", fault)
    if request.total + 1 > config.max_model_len:
        raise Refused(
            "too_long",
            f"{request.total} tokens leave no room for output: the context is "
            f"{config.max_model_len} tokens, prompt and output together",
        )
    if request.total > config.pool_tokens:
        raise Refused(
            "too_long",
            f"{request.total} tokens do not fit: the KV cache holds {config.pool_tokens} tokens",
        )


def _fault(request: Request) -> str | None:
    """What is wrong with the request's fields, naming the field."""
    if request.state is not State.NEW:
        return "request_id: this request was submitted before"
    if not request.request_id:
        return "request_id: empty"
    if request.num_prompt < 1:
        return "prompt: empty"
    if min(request.tokens) < 0 or max(request.tokens) >= _TOKEN_IDS:
        return f"prompt, output: token ids must be in [0, {_TOKEN_IDS})"
    if request.max_tokens < 1:
        return f"max_tokens: must be at least 1, not {request.max_tokens}"
    if request.num_output >= request.max_tokens:
        return f"output: {request.num_output} tokens reach max_tokens, {request.max_tokens}"
    if not 0 <= request.min_tokens <= request.max_tokens:
        return f"min_tokens: must be in [0, max_tokens], not {request.min_tokens}"
    if request.stopped:
        return f"output: ends with a stop token, {request.tokens[-1]}"
    return None
