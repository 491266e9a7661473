"""A hub with one model, and engines that echo it, for deployments of a server under test."""

from __future__ import annotations

from inferd.errors import StartError
from inferd.hub import OnProgress
from inferd.weights import ModelFolder
from tests.deployments.site import COMMIT, Models

MODEL = "org/model"


class HubOfOne(Models):
    """The means; `org/model`, `demo` and folders are there, and nothing else is."""

    def fetch(
        self, model: str, revision: str | None, token: str | None, on_progress: OnProgress
    ) -> ModelFolder:
        if model not in (MODEL, "demo") and not model.startswith("/"):
            raise StartError("not_found", f"There is no {model}", hint="Name another.")
        if revision not in (None, "main", COMMIT):
            raise StartError("not_found", f"{model} has no revision {revision!r}")
        return super().fetch(model, revision, token, on_progress)
