"""Who waits, in policy order."""

from __future__ import annotations

from collections import Counter
from heapq import heapify, heappop, heappush
from typing import TypeAlias

from inferd_scheduler.config import PolicyName
from inferd_scheduler.fair import FairShare
from inferd_scheduler.policy import Rank, output_cost, prompt_cost, ranking
from inferd_scheduler.request import Request

Lane: TypeAlias = tuple[str, str]
"""Who waits in one line: those of one caller ("" unless policy is `fair`) for one adapter."""

Turn: TypeAlias = tuple[int, Rank]
"""A lane's place among the lanes: its caller's counter, then its first request's rank."""


class WaitingQueue:
    """The waiting requests, in lanes, so that those who wait for one adapter's slot can be passed
    over together.

    Lanes are heaps by rank, and a heap holds the lanes by turn. Both delete lazily: an entry whose
    request was removed, or whose turn is not the lane's current one, is dropped when it comes up.
    All operations take O(log n) time, amortised; `restore` takes that for each lane passed over.
    """

    def __init__(self, policy: PolicyName) -> None:
        self.num_tokens = 0  # of all waiting requests
        self._shares = FairShare()
        self._fair = policy == "fair"
        self._rank = ranking(policy)
        self._waiting: dict[str, Request] = {}  # by id
        self._lanes: dict[Lane, list[tuple[Rank, Request]]] = {}  # never empty lists
        self._callers: Counter[str] = Counter()  # lanes of each caller that waits
        self._turns: dict[Lane, Turn] = {}  # the current turn of each lane
        self._order: list[tuple[Turn, Lane]] = []
        self._passed: dict[Lane, Turn] = {}  # taken out of `_order` until `restore`
        self._removed = 0  # entries in lanes whose requests were removed

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, request: Request) -> bool:
        return self._waiting.get(request.request_id) is request

    def push(self, request: Request) -> None:
        """Let `request` wait at its place; a preempted one comes before later arrivals."""
        name = self._lane(request)
        if name not in self._lanes:
            if name[0] not in self._callers:
                self._shares.enter(name[0], self._smallest())
            self._callers[name[0]] += 1
            self._lanes[name] = []
        self._waiting[request.request_id] = request
        self.num_tokens += request.total
        heappush(self._lanes[name], (self._rank(request), request))
        self._schedule(name)

    def peek(self) -> Request | None:
        """The request whose turn it is, of those that were not passed over."""
        while self._order:
            turn, name = self._order[0]
            if self._turns.get(name) == turn and self._turn(name) == turn:
                return self._lanes[name][0][1]
            heappop(self._order)
            if self._turns.get(name) == turn:  # the caller was served since: a later turn
                self._schedule(name)
        return None

    def pass_over(self, head: Request) -> None:
        """Leave `head`, which `peek` just returned, and all in its lane out until `restore`."""
        turn, name = heappop(self._order)
        assert name == self._lane(head), f"{head} is not the head"
        self._passed[name] = turn

    def restore(self) -> None:
        """Let those that were passed over take part again. To be called before any `push`."""
        for name, turn in self._passed.items():
            heappush(self._order, (turn, name))
        self._passed.clear()

    def remove(self, request: Request) -> None:
        """Take out `request`, which must be waiting. Only the head may ever be pushed again."""
        assert request in self, f"{request} does not wait"
        del self._waiting[request.request_id]
        self.num_tokens -= request.total
        self._removed += 1
        name = self._lane(request)
        self._trim(name)
        if name in self._lanes:
            self._schedule(name)
        stale = self._removed + len(self._order) - len(self._lanes)
        if stale > len(self._waiting) + 64:
            self._rebuild()

    def charge_prompt(self, request: Request) -> None:
        """`request` is admitted for the first time: its caller pays for what must be computed."""
        if self._fair:
            self._shares.charge(request.caller, prompt_cost(request))
        request.charged = request.num_given

    def charge_output(self, request: Request) -> None:
        """Its caller pays for the tokens sampled since the last charge; recomputation is free."""
        if self._fair:
            self._shares.charge(request.caller, output_cost(request.total - request.charged))
            request.charged = request.total

    def check(self) -> None:
        """The lanes hold exactly the waiting requests, and each lane has its turn in the order."""
        held = [r for lane in self._lanes.values() for _, r in lane if r in self]
        assert len(held) == len(set(held)) == len(self._waiting)
        assert self.num_tokens == sum(r.total for r in held)
        assert self._removed == sum(len(lane) for lane in self._lanes.values()) - len(held)
        assert self._turns.keys() == self._lanes.keys()
        assert all((turn, name) in self._order for name, turn in self._turns.items())
        assert Counter(caller for caller, _ in self._lanes) == self._callers
        assert not self._passed
        assert all(lane and lane[0][1] in self for lane in self._lanes.values())
        assert all(turn <= self._turn(name) for name, turn in self._turns.items())

    def _lane(self, request: Request) -> Lane:
        return (request.caller if self._fair else "", request.adapter)

    def _turn(self, name: Lane) -> Turn:
        return (self._shares.counter(name[0]), self._lanes[name][0][0])

    def _schedule(self, name: Lane) -> None:
        """Give the lane its current turn, if it has another one or none."""
        turn = self._turn(name)
        if self._turns.get(name) != turn:
            self._turns[name] = turn
            heappush(self._order, (turn, name))

    def _smallest(self) -> int | None:
        """The least counter among the waiting callers."""
        head = self.peek()
        return None if head is None else self._shares.counter(self._lane(head)[0])

    def _trim(self, name: Lane) -> None:
        """Drop removed requests from the lane's front, and the lane if it is empty."""
        lane = self._lanes[name]
        while lane and lane[0][1] not in self:
            heappop(lane)
            self._removed -= 1
        if not lane:
            del self._lanes[name], self._turns[name]
            self._callers[name[0]] -= 1
            if not self._callers[name[0]]:
                del self._callers[name[0]]
            if not self._lanes:
                self._shares.leave(name[0])

    def _rebuild(self) -> None:
        """Drop every entry of removed requests and of old turns."""
        for name, lane in self._lanes.items():
            self._lanes[name] = [entry for entry in lane if entry[1] in self]
            heapify(self._lanes[name])
        self._removed = 0
        self._order = [
            (turn, name) for name, turn in self._turns.items() if name not in self._passed
        ]
        heapify(self._order)
