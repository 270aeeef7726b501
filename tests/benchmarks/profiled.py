"""Run a PPO program and count: FLOPs of its matrix products, and seconds by what they are for.

    python tests/benchmarks/profiled.py PROGRAM ARGUMENTS …

Prints what the program prints, and one JSON line of its own after it. FLOPs are counted in a first
run, in which nothing is timed; `peak_gflops` is what one large product reaches on these threads.
"""

import json
import runpy
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

SPENT: dict[str, float] = defaultdict(float)


def main() -> None:
    """Count, then time."""
    sys.argv = sys.argv[1:]
    with FlopCounterMode(display=False) as counter:
        runpy.run_path(sys.argv[0], run_name="__main__")
    _watch()
    runpy.run_path(sys.argv[0], run_name="__main__")
    found = {
        "gflop": round(counter.get_total_flops() / 1e9, 1),
        "seconds": {part: round(seconds, 2) for part, seconds in SPENT.items()},
        "peak_gflops": round(_peak(), 1),
    }
    sys.stdout.write(json.dumps(found) + "\n")


def _watch() -> None:
    _clocked(torch.Tensor, "backward", "backward")
    for module, names in {
        "trl.experimental.ppo.ppo_trainer": {
            "batch_generation": "sampling",
            "forward": "forward",
            "get_reward": "forward",
        },
        "rlhf.model.engine.engines": {"sample_ids": "sampling"},
        "rlhf.rollouts.collector": {
            "logprobs": "forward",
            "scores": "forward",
            "values": "forward",
        },
        "rlhf.ppo.trainer": {"response_states": "forward", "token_logprobs": "forward"},
    }.items():
        if module in sys.modules:
            for name, part in names.items():
                _clocked(sys.modules[module], name, part)


def _clocked(holder: Any, name: str, part: str) -> None:
    call: Callable[..., Any] = getattr(holder, name)

    def clocked(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            grad = torch.is_grad_enabled() or part != "forward"
            SPENT[part if grad else "scoring"] += time.perf_counter() - started

    setattr(holder, name, clocked)


def _peak() -> float:
    """10^9 operations per second."""
    a, b = torch.randn(640, 1024), torch.randn(1024, 1024)
    best = 0.0
    for _ in range(20):
        started = time.perf_counter()
        _ = a @ b
        best = max(best, 2 * 640 * 1024 * 1024 / (time.perf_counter() - started) / 1e9)
    return best


if __name__ == "__main__":
    main()
