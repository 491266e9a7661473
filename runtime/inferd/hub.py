"""Fetch a model's folder from the Hugging Face hub, or from the cache of earlier fetches.

Only what serving needs is downloaded: safetensors, configs, tokenizer files, chat templates, never
code. A repository that holds pickles alone is refused before anything is downloaded. The cache
serves whom the hub would serve: it is asked each time, unless it cannot be reached. `HF_ENDPOINT`,
`HF_TOKEN`, `HF_HOME`, `HF_HUB_CACHE` and `HF_HUB_OFFLINE` mean what huggingface_hub says.
"""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inferd.errors import InferdError, StartError

OnProgress = Callable[[int, int], None]
"""(bytes there, bytes in all); called from the downloading threads, one at a time. An error of
ours that it raises ends the download."""

Check = Callable[[str, Collection[str]], None]
"""Raises `StartError` unless a repository with these files can be used."""

WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "tokenizer*"]
# Folders hold other formats' copies of the weights; Mistral's `consolidated` is a second copy.
UNWANTED = ["*/*", "consolidated*.safetensors", "*.py"]

_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
_REFUSALS = (401, 403, 404, 410, 451)
_TRIES = 5  # of a download whose connections break; what is whole is kept
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class Hub:
    """Which hub, which cache, whose token. None: what the environment says."""

    endpoint: str | None = None
    cache: Path | None = None
    token: str | None = field(default=None, repr=False)


def repo_of(named: str, revision: str | None = None) -> tuple[str, str | None]:
    """The repository and the revision of a hub id: `org/name`, `org/name@revision` or, of the
    hub's first models, `name`.

    Raises:
        StartError: `not_found`: it is no hub id; `bad_option`: `revision` is another one.
    """
    repo, at, inside = named.partition("@")
    if not _ID.fullmatch(repo) or repo.startswith(".") or (at and not inside):
        message = f"There is no folder {named}, and it is not a hub id either"
        raise StartError("not_found", message)
    if at and revision not in (None, inside):
        raise StartError("bad_option", f"{named} and the revision {revision!r} contradict")
    return repo, inside or revision


def fetch(repo: str, revision: str | None, hub: Hub, on_progress: OnProgress) -> Path:
    """Download the model that is not cached and return the snapshot's folder, named after its
    commit.

    Raises:
        StartError: as `download` does, and `unsupported`.
    """
    return download(repo, revision, hub, on_progress, WANTED, refuse_unsuitable)


def download(
    repo: str,
    revision: str | None,
    hub: Hub,
    on_progress: OnProgress,
    wanted: Sequence[str],
    check: Check,
) -> Path:
    """The folder of `repo`'s commit, with the files that fit the patterns `wanted`.

    What is cached is not downloaded again, and a connection that breaks is taken up where it
    broke. Without a network, or offline, a complete cached snapshot serves.

    Raises:
        StartError: `not_found`, `forbidden`, `bad_option` or `out_of_disk`; what `check` raises.
    """
    files = _files(repo, revision, hub)
    if files is not None:
        check(repo, files)
    for _ in range(_TRIES):
        try:
            return Path(_snapshot(repo, revision, hub, wanted, on_progress))
        except InferdError:
            raise
        except Exception as raised:
            error = raised
            if isinstance(error, OSError | ValueError):  # no connection's fault
                break
    raise translate(error, repo, revision) from error


def _files(repo: str, revision: str | None, hub: Hub) -> list[str] | None:
    """The names in the repository; None where the hub does not answer. Raises StartError."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        found = HfApi(endpoint=hub.endpoint, token=hub.token).model_info(repo, revision=revision)
    except HfHubHTTPError as error:
        if error.response.status_code in _REFUSALS:  # the cache must not get around it
            raise translate(error, repo, revision) from error
        return None
    except Exception:  # the download asks again; it may have a cached copy, or says why not
        return None
    return [each.rfilename for each in found.siblings or ()]


def _snapshot(
    repo: str, revision: str | None, hub: Hub, wanted: Sequence[str], on_progress: OnProgress
) -> str:
    from huggingface_hub import snapshot_download

    return snapshot_download(
        repo,
        revision=revision,
        endpoint=hub.endpoint,
        cache_dir=hub.cache,
        token=hub.token,
        allow_patterns=list(wanted),
        ignore_patterns=UNWANTED,
        tqdm_class=_bar_class(on_progress),
    )


def refuse_unsuitable(where: str, files: Collection[str]) -> None:
    """Raise `StartError` unless `files`, the names in a repository or folder, can be served."""
    weights = [name for name in files if name.endswith(".safetensors") and "/" not in name]
    if not any(not name.startswith("consolidated") for name in weights):
        pickles = sorted(name for name in files if name.endswith(_PICKLES))
        if pickles:
            raise StartError(
                "unsupported",
                f"{where} holds pickled weights only ({pickles[0]}), which can run code when "
                "they are read; only safetensors are loaded",
                hint="Use a repository that has safetensors, or convert it.",
            )
        raise StartError(
            "not_found",
            f"{where} holds no weights: there is no *.safetensors file in it",
            hint="GGUF files are not supported." if _has(files, ".gguf") else "",
        )
    if "config.json" not in files:
        raise StartError("not_found", f"{where} is not a model's folder: config.json is missing")


def translate(error: Exception, repo: str, revision: str | None) -> StartError:
    """What `error`, raised by huggingface_hub, means to the person who named `repo`."""
    from huggingface_hub import errors

    def failed(message: str, hint: str = "", code: str = "not_found") -> StartError:
        return StartError(code, message, hint=hint, log=f"{type(error).__name__}: {error}")

    if isinstance(error, errors.GatedRepoError):
        return failed(
            f"{repo} is gated: its owner must grant you access",
            "Ask for access on its page, then give your access token, or set HF_TOKEN to it.",
            code="forbidden",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return failed(
            f"There is no model called {repo} on the hub, nor a local folder of that name",
            "Check the spelling; a private model needs an access token, or HF_TOKEN.",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return failed(f"{repo} has no revision {revision!r}")
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403):
        return failed(
            f"The hub does not let this access token read {repo}",
            "Give a token that is valid and may read it, or none if it is public.",
            code="forbidden",
        )
    if isinstance(error, errors.HFValidationError):
        return failed(f"{repo!r} is neither a local folder nor a hub id", code="bad_option")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return _not_cached(error, repo, failed)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return failed(
            f"The disk is full: {repo} could not be stored",
            "Free space, or set HF_HOME to a larger disk.",
            code="out_of_disk",
        )
    return failed(f"{repo} could not be downloaded: {error}", "Try again; what came is kept.")


def _not_cached(
    error: Exception, repo: str, failed: Callable[[str, str], StartError]
) -> StartError:
    """The hub was not asked, or did not answer, and the cache does not hold the model."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return failed(
            f"{repo} is not in the cache, or not all of it, and HF_HUB_OFFLINE forbids to fetch it",
            "Unset HF_HUB_OFFLINE, or name a local folder.",
        )
    return failed(
        f"The hub cannot be reached, and {repo} is not in the cache",
        "Check the network and HF_ENDPOINT, or name a local folder.",
    )


def _has(files: Collection[str], suffix: str) -> bool:
    return any(name.endswith(suffix) for name in files)


def _bar_class(on_progress: OnProgress) -> type[Any]:
    """A progress bar that draws nothing and reports the sum of all files' bytes."""
    from huggingface_hub.utils.tqdm import tqdm

    lock = threading.Lock()

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # Of the bars that snapshot_download opens, this one counts the bytes on disk.
            self._counts = kwargs.get("name") == "huggingface_hub.snapshot_download"
            self._done = 0
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            if self._counts:
                with lock:
                    self._done += int(n or 0)
                    on_progress(self._done, int(self.total or 0))

    return Bar
