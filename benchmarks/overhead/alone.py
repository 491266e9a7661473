"""An engine's core in a process of its own, as a daemon's child has it, but with nobody around.

    python -m benchmarks.overhead.alone MODEL STREAMS [THREADS]

For each line of standard input, `[seed, streams, input_len, output_len]`, it runs so many sequences
and prints the seconds that they took.
"""

from __future__ import annotations

import json
import os
import random
import sys

from inferd.bench import offline
from inferd.engines.base import EngineSpec
from inferd.engines.process import child_environment
from inferd.messages import Sampling, Submit


def main() -> None:
    os.environ.update(child_environment(os.environ))
    model, streams, *threads = sys.argv[1:]
    num_threads = int(threads[0]) if threads else None
    spec = EngineSpec(model=model, max_batch_size=int(streams), num_threads=num_threads)
    core = offline.load(spec, lambda progress: None)
    for line in sys.stdin:
        seed, count, input_len, output_len = json.loads(line)
        chance = random.Random(seed)
        vocabulary = range(core.info.vocab_size)
        submits = [
            Submit(
                f"{seed}-{index}",
                tuple(chance.choices(vocabulary, k=input_len)),
                output_len,
                Sampling(temperature=0.0),
            )
            for index in range(count)
        ]
        done = offline.run(core, submits)
        assert done.finished == count, done.failure_messages
        print(done.seconds, flush=True)


if __name__ == "__main__":
    main()
