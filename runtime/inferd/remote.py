"""What a model on the hub says of itself: its config, its files' headers; no weights are fetched.

Requests go to the configured hub alone, as those of `hub` do.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from inferd.errors import InferdError, StartError
from inferd.hub import UNWANTED, WANTED, Hub, refuse_unsuitable, translate
from inferd.peft_files import CONFIG, TENSORS
from inferd.weights import INDEX, SINGLE, TensorInfo, verify

_MAX_JSON = 64 << 20  # bytes; of an index with a hundred thousand tensors
_AT_ONCE = 8  # headers


class Unreachable(StartError):
    """The hub did not answer: there is no network, or it may not be used."""


@dataclass(frozen=True)
class Remote:
    """A commit of a repository.

    Args:
        headers: name → what and where; offsets count from the end of the file's header.
        sizes: bytes by file name, of what serving would download.
    """

    commit: str
    config: Mapping[str, Any]
    headers: Mapping[str, TensorInfo]
    sizes: Mapping[str, int]

    @property
    def download_bytes(self) -> int:
        return sum(self.sizes.values())


def read_model(repo: str, revision: str | None, hub: Hub) -> Remote:
    """A model's config and headers. Blocks while the hub answers.

    Raises StartError: `not_found` (`Unreachable`), `forbidden`, `unsupported` or `bad_weights`.
    """
    with _Reader(repo, revision, hub) as reader:
        refuse_unsuitable(repo, reader.sizes)
        headers = reader.headers(_weights(reader))
        wanted = reader.matching(WANTED)
        return Remote(reader.commit, reader.json("config.json"), headers, wanted)


def cached(repo: str, revision: str | None, hub: Hub) -> Path | None:
    """The folder of an earlier download, if all of the model is there; asks no hub."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repo,
            revision=revision,
            cache_dir=hub.cache,
            local_files_only=True,
            allow_patterns=WANTED,
            ignore_patterns=UNWANTED,
        )
        return verify(Path(folder))
    except Exception:  # whatever is wrong with it, it is not a model that is there
        return None


def read_adapter(repo: str, revision: str | None, hub: Hub) -> Remote:
    """The same of an adapter in PEFT's format."""
    files = [CONFIG, TENSORS]
    with _Reader(repo, revision, hub) as reader:
        for name in files:
            if name not in reader.sizes:
                raise StartError("not_found", f"{repo} is not an adapter: it has no {name}")
        headers = reader.headers([TENSORS])
        config = reader.json(CONFIG)
        return Remote(reader.commit, config, headers, reader.matching(files))


def _answered(error: Exception) -> bool:
    """Whether the hub itself refused."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code < 500
    return isinstance(error, HFValidationError)


class _Reader:
    """One commit of a repository; errors of the hub's client leave it as ours."""

    def __init__(self, repo: str, revision: str | None, hub: Hub) -> None:
        from huggingface_hub import HfApi

        self._repo = repo
        self._revision = revision
        self._token = hub.token
        self._api = HfApi(endpoint=hub.endpoint, token=hub.token)
        self.commit = ""
        self.sizes: dict[str, int] = {}

    def __enter__(self) -> _Reader:
        try:
            self.commit = self._api.model_info(self._repo, revision=self._revision).sha or ""
            for entry in self._api.list_repo_tree(self._repo, revision=self.commit):
                if (size := getattr(entry, "size", None)) is not None:
                    self.sizes[entry.path] = size
        except Exception as error:
            if _answered(error):
                raise translate(error, self._repo, self._revision) from error
            raise Unreachable(
                "not_found",
                f"The hub cannot be asked for {self._repo}",
                hint="Check the network, HF_ENDPOINT and HF_HUB_OFFLINE, or name a local folder.",
                log=repr(error),
            ) from error
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InferdError) or not isinstance(error, Exception):
            return
        if isinstance(error, ValueError | LookupError | TypeError):
            raise StartError(
                "bad_weights", f"{self._repo} is damaged: {error}", log=repr(error)
            ) from error
        raise translate(error, self._repo, self._revision) from error

    def matching(self, patterns: list[str]) -> dict[str, int]:
        """Sizes of the files that fit `patterns`."""

        def fits(name: str, patterns: list[str]) -> bool:
            return any(fnmatch(name, pattern) for pattern in patterns)

        return {
            name: size
            for name, size in self.sizes.items()
            if fits(name, patterns) and not fits(name, UNWANTED)
        }

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object. Raises ValueError."""
        from huggingface_hub import get_session, get_token, hf_hub_url, hf_raise_for_status

        if self.sizes[name] > _MAX_JSON:
            raise ValueError(f"{name} is too large")
        url = hf_hub_url(self._repo, name, revision=self.commit, endpoint=self._api.endpoint)
        token = self._token or get_token()
        sent = {"authorization": f"Bearer {token}"} if token else {}
        response = get_session().get(url, headers=sent, timeout=10)
        hf_raise_for_status(response)
        value = json.loads(response.content)
        if not isinstance(value, dict):
            raise ValueError(f"{name} is not a JSON object")
        return value

    def headers(self, names: Collection[str]) -> dict[str, TensorInfo]:
        """Of these safetensors files, by ranges of them."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="header") as pool:
            parts = list(pool.map(self._header, names))
        return {name: tensor for part in parts for name, tensor in part.items()}

    def _header(self, name: str) -> dict[str, TensorInfo]:
        found = self._api.parse_safetensors_file_metadata(self._repo, name, revision=self.commit)
        return {
            tensor: TensorInfo(
                Path(name),
                info.dtype,
                tuple(info.shape),
                info.data_offsets[1] - info.data_offsets[0],
                info.data_offsets[0],
            )
            for tensor, info in found.tensors.items()
        }


def _weights(reader: _Reader) -> list[str]:
    """The files of a checkpoint, as `weights.weight_files` finds them in a folder."""
    if INDEX in reader.sizes:
        return sorted(set(reader.json(INDEX)["weight_map"].values()))
    if SINGLE in reader.sizes:
        return [SINGLE]
    return sorted(reader.matching(["*.safetensors"]))
