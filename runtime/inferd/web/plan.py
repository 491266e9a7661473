"""`/v1/plan` and `/v1/ledger`: what models would take, and what they take now."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from msgspec.structs import replace

from inferd.config.specs import SPECS
from inferd.errors import Forbidden, InferdError, InvalidRequest, NotFound, StartError, Unavailable
from inferd.ledger import LedgerView
from inferd.offload import in_thread
from inferd.planning import OPTIONS, Asked, Plan, Planner
from inferd.remote import Unreachable
from inferd.sources import PathPolicy, check_source, is_path
from inferd.web.exchange import Exchange
from inferd.web.reply import send_json
from inferd.web.routes import ApiRoute, Described, Parts, get
from inferd.weights import DEMO

TAG = "Memory"

_QUERY = {
    "model": "A Hugging Face id, a folder on the server where its operator allows that, or `demo`, "
    "the default.",
    "revision": "The hub's commit, branch or tag.",
    "adapters": "How many at once, or one of those to hold (a folder or an id); may be repeated.",
} | {name: SPECS[name].option.help for name in OPTIONS}

MAX_ADAPTERS = 64


class Memory:
    """The endpoints."""

    def __init__(self, planner: Planner, paths: PathPolicy) -> None:
        self._planner = planner
        self._paths = paths

    async def plan(self, exchange: Exchange) -> None:
        asked = self._asked(exchange)
        try:
            survey = await in_thread(lambda: self._planner.survey(asked))
            plan = self._planner.plan(survey)
        except StartError as error:
            raise _callers(error) from error
        await send_json(exchange.send, plan)

    async def ledger(self, exchange: Exchange) -> None:
        await send_json(exchange.send, self._planner.ledger.snapshot())

    def _asked(self, exchange: Exchange) -> Asked:
        """Raises InvalidRequest or Forbidden, which name the parameter."""
        query = exchange.query
        _refuse_unknown(query)
        model = query.get("model", DEMO)
        if not model:
            raise InvalidRequest("`model` must not be empty", "model")
        options = {name: _option(name, query[name]) for name in OPTIONS if name in query}
        return Asked(
            check_source(model, self._paths, param="model"),
            replace(self._planner.spec, **options),
            _revision(model, query),
            self._adapters(query.getlist("adapters")),
        )

    def _adapters(self, given: list[str]) -> int | tuple[str, ...] | None:
        if len(given) == 1 and given[0].isdecimal():
            count: int = _option("max_adapters", given[0], "adapters")
            return count
        if len(given) > MAX_ADAPTERS:
            raise InvalidRequest(f"`adapters`: at most {MAX_ADAPTERS} can be named", "adapters")
        named = tuple(check_source(each, self._paths, param="adapters") for each in given)
        return named or None


def _refuse_unknown(query: Mapping[str, str]) -> None:
    for name in query:
        if name not in _QUERY:
            near = get_close_matches(name, _QUERY, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise InvalidRequest(f"Unknown parameter `{name[:64]}`{hint}", name[:64])


def _option(name: str, text: str, param: str | None = None) -> Any:
    """The value of an option, which the parameter of its name, or `param`, gives."""
    param = param or name
    try:
        return SPECS[name].parse(text, f"`{param}`")
    except StartError as error:
        raise InvalidRequest(error.message, param) from error


def _revision(model: str, query: Mapping[str, str]) -> str | None:
    revision, inside = query.get("revision"), model.partition("@")[2]
    if not is_path(model) and inside and revision not in (None, inside):
        raise InvalidRequest("`model` and `revision` name different revisions", "revision")
    return revision


def _callers(error: StartError) -> InferdError:
    """Whose fault it is that no plan could be made: of who named the model, mostly."""
    message = f"{error.message}. {error.hint}".removesuffix(". ")
    if isinstance(error, Unreachable):
        return Unavailable(message, retry_after=30.0)
    if error.code == "not_found":
        return NotFound(message, param="model")
    if error.code == "forbidden":
        return Forbidden(message, param="model")
    if error.code in ("bad_option", "unsupported", "bad_weights"):
        return InvalidRequest(message, "device" if error.code == "bad_option" else "model")
    return error


def routes(parts: Parts) -> list[ApiRoute]:
    if parts.planner is None:
        return []
    memory = Memory(parts.planner, parts.paths)
    plan = Described(
        "Whether and how a model would fit, before anything is downloaded",
        TAG,
        reply=Plan,
        query=_QUERY,
        refusals=(
            (Forbidden(""), "The operator does not allow this folder, or the hub this model"),
            (NotFound(""), "There is no such model"),
            (Unavailable(""), "The hub cannot be asked now"),
        ),
    )
    ledger = Described("Who holds how much of which memory", TAG, reply=LedgerView)
    return [
        get("/v1/plan", memory.plan, plan),
        get("/v1/ledger", memory.ledger, ledger),
    ]
