"""Work that ends when its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.types import Receive


async def while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> bool:
    """Run `work`, which must not call `receive`; cancel it when the client disconnects.

    Returns whether `work` ran to its end. When this call is cancelled, so is `work`; either
    way it has ended when this returns or raises.
    """
    task = asyncio.create_task(work)
    watch = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
    finally:
        task.cancel()  # does nothing where it is done
        watch.cancel()
        await asyncio.wait((task, watch))
    if task.cancelled():
        return False
    task.result()
    return True


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
