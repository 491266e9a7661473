"""Deterministic mode: what it promises, and where that can be kept; without torch.

A request's tokens and logprobs are the same to the bit whoever shares its steps, however its prompt
is cut, whatever the prefix cache holds, and whether it is preempted: with the same weights, options
and kernels on the same kind of device, and with a seed where it samples. Every operation must then
compute a row from that row alone, adding in one order.

There is no such mode for one request: kernels are shared with its neighbours.

On a CPU the compiled kernels always do, so the mode changes nothing there: it is a promise, checked
at the start. On a GPU it prefers implementations that are invariant to others that are faster.
"""

from __future__ import annotations

from inferd.errors import StartError
from inferd_kernels import gpu

NOT_KEPT = "--deterministic cannot be kept here"


def check_promise(*, why_not_native: str, on_cpu: bool, kernels: bool) -> None:
    """Whether this machine can keep it for a model.

    Args:
        why_not_native: empty where the native decoder runs the model.
        kernels: whether the CPU's compiled kernels run it.

    Raises StartError(unsupported).
    """
    hint = "Start without --deterministic."
    if why_not_native:
        why = f"transformers' code runs the model, so sums depend on the batch ({why_not_native})"
    elif on_cpu and not kernels:
        why = "torch's sums depend on the batch, and the compiled kernels cannot be had"
        hint = "`inferd check` says why there are none."
    elif not on_cpu and not gpu.present():
        why = "torch's sums depend on the batch, and there is no Triton for our kernels"
        hint = "Install triton, or start without --deterministic."
    else:
        return
    raise StartError("unsupported", f"{NOT_KEPT}: {why}", hint=hint)
