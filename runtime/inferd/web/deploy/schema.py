"""What the routes for deployments read and write, with its bounds."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from inferd.deployments import StatsPoint, Step
from inferd.deployments.spec import MAX_INSTANCES
from inferd.lifecycle import Failure, State
from inferd.names import MAX_NAME_CHARS
from inferd.web.bounds import said

Gpu = Literal[
    "L4-24GB",
    "L40S-48GB",
    "A100-80GB",
    "H100-80GB",
    "H200-141GB",
    "B200-180GB",
    "B300-270GB",
    "RTXPRO6000-96GB",
    "other",
]
"""DeepInfra's names."""

OTHER: Gpu = "other"

_NAME = r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)*$"  # a colon would begin a version
_PRINTABLE = r"^[!-~]+$"  # it goes into a header
_MAX_SOURCE = 4096

Name = Annotated[
    str,
    Meta(min_length=1, max_length=MAX_NAME_CHARS, pattern=_NAME),
    said("What requests write as `model`."),
]
Source = Annotated[str, Meta(min_length=1, max_length=_MAX_SOURCE)]
Revision = Annotated[
    Annotated[str, Meta(min_length=1, max_length=256)] | None,
    said("The hub's commit, branch or tag."),
]
Token = Annotated[
    Annotated[str, Meta(min_length=1, max_length=512, pattern=_PRINTABLE)] | None,
    said("Hugging Face's, for gated and private repositories; it is not kept."),
]
ReplacedBy = Annotated[
    Annotated[str, Meta(max_length=MAX_NAME_CHARS)] | None,
    said("The model that answers in place of this one; empty: it answers itself."),
]
Size = Annotated[int, Meta(ge=1, le=2**62)]  # bytes


class Hf(Struct, kw_only=True):
    """Weights from Hugging Face's hub."""

    repo: Annotated[
        Source, said("An id, `demo`, or a folder on the server where its operator allows that.")
    ]
    revision: Revision = None
    token: Token = None


class ScaleSettings(Struct, kw_only=True):
    """How many copies of the model run."""

    min_instances: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_INSTANCES)],
        said("So many are always there; with 0 the model sleeps while nobody asks it."),
    ] = 1
    max_instances: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_INSTANCES)],
        said("So many run under load, if memory allows."),
    ] = 1


class EngineOptions(Struct, kw_only=True, forbid_unknown_fields=True):
    """How to run the model; by default as `inferd serve` was told."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = None
    quantization: Literal["auto", "int8", "compressed-tensors"] | None = None
    deterministic: bool | None = None
    max_model_len: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    max_batch_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    kv_cache_bytes: Size | None = None
    max_adapters: Annotated[int, Meta(ge=0, le=1024)] | None = None
    max_adapter_rank: Annotated[int, Meta(ge=1, le=256)] | None = None
    idle_timeout: Annotated[
        Annotated[float, Meta(gt=0, le=1e9)] | None,
        said("Seconds without requests before it sleeps, or an instance ends."),
    ] = None


class DeployLlm(Struct, kw_only=True):
    """A model to serve, with its weights: `hf` or `base_model`."""

    model_name: Name
    gpu: Annotated[Gpu, said("Any of them means what this machine has.")] = "other"
    num_gpus: Annotated[
        Annotated[int, Meta(ge=1, le=8)], said("For each instance; so far 1 is the most.")
    ] = 1
    max_batch_size: Annotated[
        Annotated[int, Meta(ge=1, le=256)], said("Sequences at once; more wait.")
    ] = 96
    hf: Hf | None = None
    base_model: Annotated[Source | None, said("Public weights, in place of `hf`.")] = None
    settings: ScaleSettings | None = None
    engine: EngineOptions | None = None
    replaced_by: ReplacedBy = None


class DeployHf(Struct, kw_only=True):
    """A public model, served under its name on the hub."""

    model_name: Name
    task: Annotated[Literal["text-generation"] | None, said("There are no others.")] = None
    settings: ScaleSettings | None = None


class DeployModel(Struct, kw_only=True):
    """The same, with a revision."""

    model_name: Name
    provider: Literal["huggingface"] = "huggingface"
    version: Revision = None


class UpdateDeployment(Struct, kw_only=True):
    """What may change while it runs."""

    settings: ScaleSettings | None = None
    replaced_by: ReplacedBy = None


class DeployId(Struct):
    """Which deployment it was about."""

    deploy_id: str


class Weights(Struct):
    """Where they come from. `revision` is as it was asked for; the commit is the version."""

    repo: str
    revision: str | None


class Config(Struct):
    """What does not change. `gpu` is what really runs it: one of DeepInfra's names, `other`, or
    `cpu`. `base_model` is what an adapter adapts."""

    gpu: str
    num_gpus: int
    max_batch_size: int | None
    weights: Weights
    base_model: str | UnsetType = UNSET


class InstanceCounts(Struct):
    """`running` take requests; `pending` start or wake."""

    running: int
    pending: int


class DeploymentOut(Struct, kw_only=True):
    """A deployment, of a model or of an adapter (`lora`). Times are ISO 8601 in UTC. What is not
    DeepInfra's follows `settings`."""

    type: Literal["llm", "lora"] = "llm"
    deploy_id: str
    model_name: str
    version: str | None
    task: str = "text-generation"
    status: State
    fail_reason: str | None
    created_at: str
    updated_at: str
    instances: InstanceCounts
    config: Config
    settings: ScaleSettings

    failure: Failure | None
    progress: Step | None
    asleep: bool
    in_flight: int
    replaced_by: str | None


class Totals(Struct):
    """Sums over the time that was asked for."""

    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class DeploymentStats(Struct):
    """What a deployment did, by the minute; `begin` and `end` are Unix times in seconds."""

    deploy_id: str
    model_name: str
    begin: float
    end: float
    total: Totals
    points: tuple[StatsPoint, ...]


class GpuConfig(Struct):
    """Something that a deployment may ask for. Nothing is charged."""

    gpu_config: str
    usd_per_hour: float
    available: bool
    recommended: bool


class GpuAvailability(Struct):
    gpus: list[GpuConfig]


class SuggestedName(Struct):
    model_name: str
