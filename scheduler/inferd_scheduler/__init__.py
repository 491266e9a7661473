"""Continuous batching as a pure state machine: no I/O, clock, thread or tensor.

The manner is h11's: methods take what happened (and the time), and return what it means.

    scheduler.submit(request, now)
    while (step := scheduler.plan(now)) is not None:
        for event in scheduler.commit(step, engine.run(step), now):
            ...

One step ahead. An engine whose device need not wait for the host plans the next step while one is
in flight, and commits in order; what is not known by then is `UNKNOWN`:

    step = scheduler.plan(now)
    while step is not None:
        following = scheduler.plan(now)
        events = scheduler.commit(step, engine.run(step), now)
        step = following or scheduler.plan(now)

Adapters. A request for an adapter runs only while the adapter is in one of `max_adapters` slots.
Its running requests pin it there; what nobody pins stays until its slot is needed, least recently
used first. Who finds all slots pinned is passed over: others, the bare model's among them, come in
as if it were not there. So that nobody waits for ever, the first of those passed over, in the order
of the policy, closes a slot to all who come after it: of the slots that were loaded `adapter_turn`
steps ago or more, the one that is sure to be free first, by what its running requests may still
generate. That bound shrinks with every step, and when the slot is free, the first in the order gets
it. So adapters share the slots as their requests share the queue: by arrival, by priority, or by
what their callers were served. How many requests an adapter has, or how busy it is, gains it no
more than its turn, which is there so that requests for one adapter can share steps.
"""

from inferd_scheduler.config import PolicyName, SchedulerConfig
from inferd_scheduler.errors import RefusalCode, Refused
from inferd_scheduler.events import Event, Failed, Finished, Preempted, Scheduled, Token
from inferd_scheduler.request import Request, State
from inferd_scheduler.scheduler import Scheduler
from inferd_scheduler.stats import Stats
from inferd_scheduler.step import UNKNOWN, Result, Step, Work

__all__ = [
    "UNKNOWN",
    "Event",
    "Failed",
    "Finished",
    "PolicyName",
    "Preempted",
    "RefusalCode",
    "Refused",
    "Request",
    "Result",
    "Scheduled",
    "Scheduler",
    "SchedulerConfig",
    "State",
    "Stats",
    "Step",
    "Token",
    "Work",
]
