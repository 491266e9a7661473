"""Deployments: created, run, stopped, deleted, and the same again after a restart."""

from inferd.deployments.manager import Deployments
from inferd.deployments.means import Means, Served
from inferd.deployments.records import Record
from inferd.deployments.spec import DeploySpec
from inferd.deployments.status import DeploymentStatus, StatsPoint, Step

__all__ = [
    "DeploySpec",
    "DeploymentStatus",
    "Deployments",
    "Means",
    "Record",
    "Served",
    "StatsPoint",
    "Step",
]
