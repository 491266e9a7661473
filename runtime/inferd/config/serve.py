"""The table of options: `ServeConfig`, where each field's annotation holds its `Option`."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated

from inferd.config.choices import (
    DTYPES,
    LEVELS,
    POLICIES,
    QUANTIZATIONS,
    REASONING_PARSERS,
    TOOL_PARSERS,
)
from inferd.config.option import Option, bad_option

DEMO_MODEL = "demo"

MODEL, SCHEDULING, MEMORY = "Model", "Scheduling", "Memory and device"
SERVER, LOGS = "Server", "Logs"
GROUPS = (MODEL, SCHEDULING, MEMORY, SERVER, LOGS)


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Every option of `inferd serve`, complete and checked."""

    model: Annotated[
        str, Option(help="A local folder, a Hugging Face id, or the built-in `demo`.", group=MODEL)
    ] = DEMO_MODEL
    revision: Annotated[
        str | None,
        Option(help="Branch, tag or commit of a Hugging Face id.", group=MODEL),
    ] = None
    served_model_name: Annotated[
        tuple[str, ...],
        Option(help="Name that clients ask for; may be repeated.", group=MODEL, unit="NAME"),
    ] = ()
    dtype: Annotated[
        str,
        Option(
            help="Number type of weights and KV cache; auto is the checkpoint's, but float32 on a"
            " CPU without compiled kernels.",
            group=MODEL,
            choices=DTYPES,
        ),
    ] = "auto"
    quantization: Annotated[
        str,
        Option(
            help="What weights are kept in: int8 makes them so while they are loaded, on a CPU; "
            "auto is as the checkpoint has them.",
            group=MODEL,
            choices=QUANTIZATIONS,
        ),
    ] = "auto"
    quantization_check: Annotated[
        bool,
        Option(
            help="Measure at the start, on a short text, what int8 weights do to logprobs.",
            group=MODEL,
        ),
    ] = True
    max_model_len: Annotated[
        int | None,
        Option(
            help="Longest prompt and output together. Default: the model's, or less if memory "
            "is short.",
            group=MODEL,
            least=1,
            unit="TOKENS",
        ),
    ] = None
    seed: Annotated[
        int | None,
        Option(
            help="Where the seeds of requests that bring none come from. Default: chance.",
            group=MODEL,
            least=0,
            most=2**63 - 1,
        ),
    ] = None
    deterministic: Annotated[
        bool,
        Option(help="Promise tokens and logprobs that depend on their request alone.", group=MODEL),
    ] = False
    tool_call_parser: Annotated[
        str,
        Option(
            help="How the model writes tool calls; auto follows its chat template.",
            group=MODEL,
            choices=TOOL_PARSERS,
        ),
    ] = "auto"
    reasoning_parser: Annotated[
        str,
        Option(
            help="How the model marks its thoughts; auto follows its template and tokenizer.",
            group=MODEL,
            choices=REASONING_PARSERS,
        ),
    ] = "auto"
    engine: Annotated[
        str, Option(help="Which engine runs the model.", group=MODEL, hidden=True)
    ] = "native"

    max_batch_size: Annotated[
        int,
        Option(
            help="Most sequences in one step.",
            group=SCHEDULING,
            aliases=("max_num_seqs",),
            least=1,
            unit="SEQUENCES",
        ),
    ] = 64
    max_batch_tokens: Annotated[
        int,
        Option(
            help="Most tokens in one step.",
            group=SCHEDULING,
            aliases=("max_num_batched_tokens",),
            least=1,
            unit="TOKENS",
        ),
    ] = 2048
    policy: Annotated[
        str,
        Option(
            help="Who goes first: the earliest, the smallest priority, or fair shares per caller.",
            group=SCHEDULING,
            aliases=("scheduling_policy",),
            choices=POLICIES,
        ),
    ] = "fcfs"
    max_queue_requests: Annotated[
        int,
        Option(
            help="Most waiting requests; more get 429.",
            group=SCHEDULING,
            aliases=("max_num_queued_reqs",),
            least=1,
            unit="REQUESTS",
        ),
    ] = 1024
    max_queue_tokens: Annotated[
        int,
        Option(
            help="Most tokens in waiting requests; more get 429.",
            group=SCHEDULING,
            aliases=("max_num_queued_tokens",),
            least=1,
            unit="TOKENS",
        ),
    ] = 4_000_000
    min_instances: Annotated[
        int,
        Option(
            help="Instances of the model that run at least; 0: it sleeps while nobody asks.",
            group=SCHEDULING,
            least=0,
            most=32,
        ),
    ] = 1
    max_instances: Annotated[
        int,
        Option(
            help="Instances of the model that run at most, when requests wait.",
            group=SCHEDULING,
            least=1,
            most=32,
        ),
    ] = 1
    idle_timeout: Annotated[
        float,
        Option(
            help="How long after its last request a model with --min-instances 0 sleeps.",
            group=SCHEDULING,
            above=0.0,
            unit="SECONDS",
        ),
    ] = 300.0
    prefix_cache: Annotated[
        bool,
        Option(
            help="Reuse the KV cache between prompts that begin alike.",
            group=SCHEDULING,
            aliases=("enable_prefix_caching",),
        ),
    ] = True

    device: Annotated[
        str, Option(help="auto, cpu, cuda or cuda:N.", group=MEMORY, unit="DEVICE")
    ] = "auto"
    memory_fraction: Annotated[
        float,
        Option(
            help="Share to use of each GPU's memory, and of the memory that is available here.",
            group=MEMORY,
            aliases=("gpu_memory_utilization",),
            above=0.0,
            most=1.0,
        ),
    ] = 0.9
    memory_budget: Annotated[
        int | None,
        Option(
            help="Main memory for all models together, like 8GiB. One that needs more puts idle "
            "ones to sleep. Default: the memory fraction of what is available at the start.",
            group=MEMORY,
            least=1,
            size=True,
        ),
    ] = None
    kv_cache_bytes: Annotated[
        int | None,
        Option(
            help="Size of the KV cache, like 512MiB. Default: what the memory fraction leaves, "
            "and on a CPU no more than suits the weights.",
            group=MEMORY,
            aliases=("kv_cache_memory_bytes",),
            least=1,
            size=True,
        ),
    ] = None
    block_size: Annotated[
        int,
        Option(help="Tokens per KV block.", group=MEMORY, least=1, most=1024, unit="TOKENS"),
    ] = 16
    max_adapters: Annotated[
        int,
        Option(
            help="Adapters that a model runs at once; requests for others wait. 0: none.",
            group=MEMORY,
            aliases=("max_loras",),
            least=0,
            most=1024,
        ),
    ] = 8
    max_adapter_rank: Annotated[
        int,
        Option(
            help="Largest rank of an adapter.",
            group=MEMORY,
            aliases=("max_lora_rank",),
            least=1,
            most=256,
        ),
    ] = 64
    adapter_host_bytes: Annotated[
        int,
        Option(
            help="Main memory for the adapters of each model, like 1GiB; those that do not fit are "
            "read from disk when they are used.",
            group=MEMORY,
            least=0,
            size=True,
        ),
    ] = 1 << 30
    adapter_history: Annotated[
        int,
        Option(
            help="Earlier generations of each adapter's name that are kept on disk, to roll back "
            "to.",
            group=MEMORY,
            least=1,
            most=1000,
        ),
    ] = 4
    num_threads: Annotated[
        int | None,
        Option(help="CPU threads per operation. Default: one per core.", group=MEMORY, least=1),
    ] = None
    enforce_eager: Annotated[
        bool,
        Option(help="Run without CUDA graphs: slower decoding, more memory for KV.", group=MEMORY),
    ] = False

    host: Annotated[
        str,
        Option(
            help="Address to listen on. Any but loopback needs an API key.",
            group=SERVER,
            unit="ADDRESS",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Option(help="Port to listen on; 0 takes a free one.", group=SERVER, least=0, most=65535),
    ] = 8000
    grpc_port: Annotated[
        int | None,
        Option(
            help="Port for gRPC, at the same address; 0 takes a free one. Default: no gRPC.",
            group=SERVER,
            least=0,
            most=65535,
        ),
    ] = None
    api_key: Annotated[
        tuple[str, ...],
        Option(
            help="Key that clients must send; may be repeated. $INFERD_API_KEY keeps it out of "
            "lists of processes.",
            group=SERVER,
            unit="KEY",
        ),
    ] = ()
    allow_unauthenticated: Annotated[
        bool,
        Option(help="Serve other machines without a key: anyone may use it.", group=SERVER),
    ] = False
    cors_origin: Annotated[
        tuple[str, ...],
        Option(
            help="Origin of web pages that may call from a browser; may be repeated.",
            group=SERVER,
            unit="ORIGIN",
        ),
    ] = ()
    state_dir: Annotated[
        str | None,
        Option(
            help="Where deployments and adapters are kept. Default: a folder per port in "
            "$XDG_STATE_HOME/inferd; with --port 0 one that goes with the daemon.",
            group=SERVER,
            unit="DIR",
        ),
    ] = None
    database: Annotated[
        str | None,
        Option(
            help="PostgreSQL or SQLite database for the records of deployments and adapters, as a "
            "URL of SQLAlchemy. Default: SQLite, in the state folder.",
            group=SERVER,
            unit="URL",
        ),
    ] = None
    allow_path: Annotated[
        tuple[str, ...],
        Option(
            help="Folder that API callers may load models and adapters from; may be repeated. "
            "Default: any, where only this machine reaches the server and no key is set.",
            group=SERVER,
            unit="DIR",
        ),
    ] = ()
    shutdown_timeout: Annotated[
        float,
        Option(
            help="How long running requests may go on after SIGTERM.",
            group=SERVER,
            least=0,
            unit="SECONDS",
        ),
    ] = 30.0

    log_level: Annotated[
        str, Option(help="Least level that is logged.", group=LOGS, choices=LEVELS)
    ] = "info"
    log_json: Annotated[bool, Option(help="Log one JSON object per line.", group=LOGS)] = False
    log_requests: Annotated[
        bool,
        Option(
            help="Log each request, never its text.",
            group=LOGS,
            aliases=("enable_log_requests",),
        ),
    ] = False

    def __post_init__(self) -> None:
        if self.database and self.port == 0 and self.state_dir is None:
            raise bad_option(
                "database names what outlives the server, but adapters' files would not, since "
                "port 0 has no state folder of its own",
                "Name a state folder with --state-dir DIR.",
            )
        if self.min_instances > self.max_instances:
            raise bad_option(
                f"min_instances is {self.min_instances}, which is more than max_instances, "
                f"{self.max_instances}",
                "Raise --max-instances, or lower --min-instances.",
            )
        if not (is_loopback(self.host) or self.api_key or self.allow_unauthenticated):
            raise bad_option(
                f"host {self.host!r} is reachable from other machines, and no API key is set",
                "Add --api-key KEY, or --allow-unauthenticated if anyone may use it.",
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
