"""From what a caller named, a folder or a repository on the hub, to a staged copy."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from inferd.adapters.library import CONFIG, TENSORS, Library, Staged
from inferd.errors import Forbidden, InvalidRequest, StartError
from inferd.hub import Hub, download
from inferd.sources import is_path

_REPO = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


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
        repo, at, named = self.text.partition("@")
        if not _REPO.fullmatch(repo) or repo.startswith(".") or (at and not named):
            raise InvalidRequest(
                "source is neither an absolute folder nor a hub id (`org/name`)", "source"
            )
        if at and self.revision not in (None, named):
            raise InvalidRequest("source and revision name different revisions", "revision")
        return repo, named or self.revision


async def stage(library: Library, hub: Hub, source: Source) -> tuple[Staged, str | None]:
    """A copy of what `source` names, and the hub's commit; nobody else sees it yet. It works in
    a thread: when the caller is cancelled, the copy is discarded as soon as the thread is done.

    Raises:
        InvalidRequest: it is no adapter, or not to be had; names `source`.
        Forbidden: the hub's owner of it does not allow it.
        StartError: it could not be stored.
    """
    repo = source.repo()

    def work() -> tuple[Staged, str | None]:
        if repo is None:
            return library.stage(Path(source.text)), None
        folder = _fetch(*repo, replace(hub, token=source.token or hub.token))
        return library.stage(folder), folder.name

    future = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(lambda done: _discard(library, done))
        raise


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


def _discard(library: Library, done: asyncio.Future[tuple[Staged, str | None]]) -> None:
    if not done.cancelled() and done.exception() is None:
        library.discard(done.result()[0].folder)
