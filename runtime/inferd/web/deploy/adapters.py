"""Adapters as DeepInfra shows them: deployments of the type `lora`."""

from __future__ import annotations

from collections.abc import Collection

from inferd.adapters.records import AdapterState, AdapterStatus
from inferd.adapters.table import Adapters
from inferd.card import adapter_id, describe
from inferd.lifecycle import State
from inferd.registry import Registry
from inferd.web.deploy.convert import iso
from inferd.web.deploy.machine import running_on
from inferd.web.deploy.schema import (
    Config,
    DeploymentOut,
    InstanceCounts,
    ScaleSettings,
    Weights,
)

_STATES: dict[AdapterState, State] = {
    "active": "running",
    "waiting": "initializing",
    "failed": "failed",
    "draining": "stopping",
}


class LoraDeployments:
    """All adapters."""

    def __init__(self, adapters: Adapters, registry: Registry) -> None:
        self._adapters = adapters
        self._registry = registry

    def list(self, states: Collection[State] | None = None) -> list[DeploymentOut]:
        """Those in one of `states`; None: all."""
        listed = self._adapters.list()
        return [
            self.show(each) for each in listed if states is None or _STATES[each.state] in states
        ]

    def find(self, deploy_id: str) -> AdapterStatus | None:
        listed = self._adapters.list()
        return next((each for each in listed if adapter_id(each) == deploy_id), None)

    def show(self, status: AdapterStatus) -> DeploymentOut:
        """An adapter runs in its base's processes; its version is its generation."""
        bases = {each.name: each for each in self._registry.list()}
        card = describe(bases[status.base]) if status.base in bases else None
        engine = card.engine if card is not None else None
        serves = status.state == "active" and card is not None and card.ready
        return DeploymentOut(
            type="lora",
            deploy_id=adapter_id(status),
            model_name=status.name,
            version=status.generation,
            status=_STATES[status.state],
            fail_reason=status.error or None,
            created_at=iso(status.created),
            updated_at=iso(status.updated),
            instances=InstanceCounts(running=int(serves), pending=0),
            config=Config(
                running_on(engine.device if engine is not None else None),
                1,
                engine.max_batch_size if engine is not None else None,
                Weights(status.source, status.revision),
                base_model=status.base,
            ),
            settings=ScaleSettings(),
            failure=None,
            progress=None,
            asleep=card is not None and card.state == "asleep",
            in_flight=status.in_flight,
            replaced_by=None,
        )
