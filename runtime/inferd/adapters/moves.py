"""What becomes of a name's record when its pointer moves. Pure: nothing is held or stored here."""

from __future__ import annotations

from msgspec.structs import replace

from inferd.adapters.records import AdapterRecord, GenerationRecord, Trial
from inferd.errors import Conflict, NotFound


def created(name: str, base: str, generation: GenerationRecord, now: int) -> AdapterRecord:
    """A new name. `now` is Unix time in seconds."""
    known = {generation.generation: generation}
    return AdapterRecord(name, base, generation.generation, now, known)


def pointed(record: AdapterRecord, to: GenerationRecord, keep: int) -> AdapterRecord:
    """`to` becomes the current generation, and what was so the one before; `keep` of those stay.
    A trial of `to` has ended then."""
    new = to.generation
    if record.generation == new:
        return record
    previous = [each for each in record.previous if each != new]
    previous.append(record.generation)
    moved = replace(
        record,
        generation=new,
        previous=tuple(previous[-keep:]),
        canary=_unless(record.canary, new),
        shadow=_unless(record.shadow, new),
    )
    return _knowing(moved, to)


def with_canary(record: AdapterRecord, of: GenerationRecord, percent: float) -> AdapterRecord:
    return _knowing(replace(record, canary=Trial(of.generation, percent)), of)


def with_shadow(record: AdapterRecord, of: GenerationRecord, percent: float) -> AdapterRecord:
    return _knowing(replace(record, shadow=Trial(of.generation, percent)), of)


def promoted(record: AdapterRecord, keep: int) -> AdapterRecord:
    """The canary, or else the shadow, becomes the current generation. Raises `Conflict`."""
    trial = record.canary or record.shadow
    if trial is None:
        raise Conflict(f"The adapter `{record.name}` has no canary or shadow to promote")
    return pointed(record, record.generations[trial.generation], keep)


def without_trials(record: AdapterRecord) -> AdapterRecord:
    return _knowing(replace(record, canary=None, shadow=None))


def earlier(record: AdapterRecord, to: str | None) -> GenerationRecord:
    """The generation before, or the kept one that begins with `to`.

    Raises:
        Conflict: there is none before.
        NotFound: `to` is not one of those that are kept.
    """
    if to is None:
        if not record.previous:
            raise Conflict(f"The adapter `{record.name}` has no generation before this one")
        return record.generations[record.previous[-1]]
    found = [each for each in (*record.previous, record.generation) if each.startswith(to)]
    if not to or len(found) != 1:
        kept = f"The adapter `{record.name}` has kept no generation `{to[:64]}`"
        raise NotFound(kept, param="to")
    return record.generations[found[0]]


def _knowing(record: AdapterRecord, new: GenerationRecord | None = None) -> AdapterRecord:
    """`record` with the descriptions of those that it names, and of no others."""
    known = dict(record.generations)
    if new is not None:
        known.setdefault(new.generation, new)
    trials = {each.generation for each in (record.canary, record.shadow) if each is not None}
    named = {record.generation, *record.previous, *trials}
    return replace(record, generations={k: v for k, v in known.items() if k in named})


def _unless(trial: Trial | None, generation: str) -> Trial | None:
    """`trial`, unless its candidate is this very generation."""
    return None if trial is None or trial.generation == generation else trial
