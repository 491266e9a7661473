"""Continuous batching as a pure state machine: no I/O, clock, thread or tensor.

The manner is h11's: methods take what happened (and the time), and return what it means.

    scheduler.submit(request, now)
    while (step := scheduler.plan(now)) is not None:
        for event in scheduler.commit(step, engine.run(step), now):
            ...
"""

from inferd_scheduler.config import PolicyName, SchedulerConfig
from inferd_scheduler.errors import RefusalCode, Refused
from inferd_scheduler.events import Event, Failed, Finished, Preempted, Scheduled, Token
from inferd_scheduler.request import Request, State
from inferd_scheduler.scheduler import Scheduler
from inferd_scheduler.stats import Stats
from inferd_scheduler.step import Result, Step, Work

__all__ = [
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
