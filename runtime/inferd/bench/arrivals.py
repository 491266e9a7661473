"""When the requests of an open loop go out: planned beforehand, whatever the server does."""

from __future__ import annotations

import math
import random


def arrival_times(count: int, rate: float, burstiness: float, seed: int) -> list[float]:
    """Seconds from the start at which `count` requests go out; the first at 0.

    Intervals are independent and follow a gamma distribution of mean 1/rate and shape
    `burstiness`: 1 is a Poisson process, less comes in bursts, more is more regular.

    Args:
        rate: requests per second; `inf` sends all at once.
    """
    if math.isinf(rate):
        return [0.0] * count
    chance = random.Random(seed)
    times, now = [], 0.0
    for _ in range(count):
        times.append(now)
        now += chance.gammavariate(burstiness, 1 / (rate * burstiness))
    return times
