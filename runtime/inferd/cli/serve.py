"""`inferd serve`: start the daemon."""

from __future__ import annotations

import os
import threading
from contextlib import closing

from inferd.cli import CONTEXT
from inferd.cli.options import TableCommand, config_of, normalise, table_params
from inferd.config.serve import GROUPS

HELP = """Start the daemon with MODEL: a local folder, a Hugging Face id, or the built-in demo.

Options also come from INFERD_* variables (INFERD_MAX_BATCH_SIZE=8) and from inferd.toml
(max_batch_size = 8); flags win over variables, and variables over the file. Names that
`vllm serve` uses for the same thing are accepted.

SIGTERM or Ctrl-C finishes the running requests first; a second one stops at once."""

EPILOG = """\b
Examples:
  inferd serve
  inferd serve Qwen/Qwen3-0.6B --max-model-len 8192 --max-batch-size 16
  inferd serve ./my-model --served-model-name mine --kv-cache-bytes 2GiB
  inferd serve ./my-model --host 0.0.0.0 --api-key "$KEY\""""


def _serve(**params: object) -> None:
    config = config_of(params)
    from inferd import daemon
    from inferd.cli.terminal import Terminal

    with closing(Terminal()) as terminal:
        status = daemon.run(config, terminal)
    if threading.active_count() > 1:  # a download that was given up: Python would wait for it
        os._exit(status)
    raise SystemExit(status)


command = TableCommand(
    "serve",
    callback=_serve,
    params=table_params(GROUPS),
    help=HELP,
    epilog=EPILOG,
    context_settings=CONTEXT | {"token_normalize_func": normalise},
)
