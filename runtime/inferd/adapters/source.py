"""From what a caller named, a folder or a repository on the hub, to a staged copy."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from inferd.adapters.library import Library, Staged
from inferd.errors import Forbidden, InvalidRequest, StartError
from inferd.hub import Hub, download, repo_of
from inferd.offload import in_thread
from inferd.peft_files import CONFIG, TENSORS
from inferd.sources import is_path

_Outcome = tuple[Staged, str | None]
"""A copy, and the hub's commit."""


@dataclass(frozen=True)
class Source:
    """Where an adapter comes from.

    Args:
        text: an absolute folder, or `org/name`, or `org/name@revision`; paths have been checked
            (`inferd.sources`) by whoever took them from a caller.
        revision: a branch, tag or commit, for hub ids.
        token: the hub's, for this one time; stored nowhere.
    """

    text: str
    revision: str | None = None
    token: str | None = field(default=None, repr=False)

    def repo(self) -> tuple[str, str | None] | None:
        """(repository, revision), or None where it is a folder. Raises `InvalidRequest`."""
        if is_path(self.text):
            return None
        try:
            repo, revision = repo_of(self.text, self.revision)
        except StartError as error:
            if error.code == "bad_option":
                message = "source and revision name different revisions"
                raise InvalidRequest(message, "revision") from error
            repo = ""
        if "/" not in repo:
            raise InvalidRequest(
                "source is neither an absolute folder nor a hub id (`org/name`)", "source"
            )
        return repo, revision


class Stager:
    """Copies sources into a library, in threads."""

    def __init__(self, library: Library, hub: Hub) -> None:
        self._library = library
        self._hub = hub
        self._running: set[asyncio.Future[_Outcome]] = set()

    async def stage(self, source: Source) -> _Outcome:
        """A copy of what `source` names, and the hub's commit; nobody else sees it yet. When the
        caller is cancelled, the copy is discarded as soon as its thread is done.

        Raises:
            InvalidRequest: there is none, or it is no adapter; names the field.
            Forbidden: the hub does not give it to this token.
            StartError: `out_of_disk`.
        """
        repo = source.repo()

        def work() -> _Outcome:
            if repo is None:
                return self._library.stage(Path(source.text)), None
            hub = replace(self._hub, token=source.token or self._hub.token)
            folder = _fetch(*repo, hub)
            return self._library.stage(folder), folder.name

        future = asyncio.create_task(in_thread(work))
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(self._discard)
            raise

    async def settled(self) -> None:
        """Wait for the threads whose callers have left, too."""
        while self._running:
            await asyncio.wait(set(self._running))

    def _discard(self, done: asyncio.Future[_Outcome]) -> None:
        if not done.cancelled() and done.exception() is None:
            self._library.discard(done.result()[0].folder)


def _fetch(repo: str, revision: str | None, hub: Hub) -> Path:
    """The folder of the repository's commit, with the two files of an adapter. Raises as
    `stage`."""
    try:
        return download(repo, revision, hub, lambda done, total: None, (CONFIG, TENSORS), _check)
    except StartError as error:
        message = f"{error.message}. {error.hint}".rstrip(". ")
        if error.code == "forbidden":
            raise Forbidden(message, param="source") from error
        if error.code == "out_of_disk":
            raise
        raise InvalidRequest(message, "source") from error


def _check(repo: str, files: Collection[str]) -> None:
    if CONFIG not in files:
        raise StartError("not_found", f"{repo} is not an adapter: it has no {CONFIG}")
    if TENSORS not in files:
        raise StartError("unsupported", f"{repo} has no {TENSORS}; other formats are not loaded")
