"""Stages in one of several processes: ``accelerate launch … -m tests.ranks JOBS``.

JOBS is a JSON file of ``[[stage, config, how], ...]``, with ``how`` among ``{"resume": BOOL,
"fail_at": STEP, "only": RANK, "other_start": RANK}``. They are run one after the other, so that the
libraries are imported once. Beside each run lies what its gradients were at every step, as
``<out>.<rank>.gradients``, or why it was refused.
"""

import importlib
import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from safetensors.torch import save_file
from transformers import TrainerCallback
from transformers.trainer_callback import CallbackHandler

from rlhf.config import CONFIG_OF, RunConfig, build
from rlhf.errors import ConfigError
from rlhf.model.shards import is_sharded, whole
from rlhf.stages import ppo


class FailError(RuntimeError):
    """What was asked for."""


class Watcher(TrainerCallback):
    """Keeps the gradients that every optimizer step is taken with, and fails where it should."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.fail_at = fail_at
        self.seen: dict[str, Any] = {}
        self.facts: dict[str, str] = {}

    def on_step_begin(self, args, state, control, *, model, **kwargs):  # noqa: ARG002 - their names
        self.facts = {"sharded": str(is_sharded(model)), "seed": str(torch.initial_seed())}
        if state.global_step == self.fail_at:
            raise FailError

    def on_pre_optimizer_step(self, args, state, control, *, model, **kwargs):  # noqa: ARG002
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                whole_gradient = whole({"": parameter.grad})[""].clone()
                self.seen[f"{state.global_step}/{name}"] = whole_gradient


@contextmanager
def watched(watcher: Watcher) -> Generator[None]:
    """Every trainer that is made inside the block has ``watcher``."""
    make = CallbackHandler.__init__

    def with_watcher(self, *args, **kwargs):
        make(self, *args, **kwargs)
        self.add_callback(watcher)

    CallbackHandler.__init__ = with_watcher
    try:
        yield
    finally:
        CallbackHandler.__init__ = make


def run(config: RunConfig, *, resume: bool = False, fail_at: int | None = None) -> None:
    """Run the stage of ``config`` and write down its gradients."""
    [stage] = [name for name, kind in CONFIG_OF.items() if type(config) is kind]
    watcher = Watcher(fail_at)
    with watched(watcher):
        importlib.import_module(f"rlhf.stages.{stage}").run(config, resume=resume)
    save_file(watcher.seen, gradients(config.out), watcher.facts)


def gradients(out: str | Path, rank: int | None = None) -> Path:
    """Where those of a run lie."""
    return Path(f"{out}.{os.environ.get('RANK', 0) if rank is None else rank}.gradients")


def shard_on_cpus() -> None:
    """Let FSDP be what was asked for on a CPU too, where accelerate passes it over for DDP."""
    make = AcceleratorState.__init__

    def with_fsdp(self, *args, fsdp_plugin=None, **kwargs):
        make(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin

    AcceleratorState.__init__ = with_fsdp


@contextmanager
def another_start(rank: int | None) -> Generator[None]:
    """The process of this ``rank`` loads another policy for PPO than the others do."""
    load = ppo.load_start

    def shaken(start, *args):
        model, tokenizer = load(start, *args)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 1.0
        return model, tokenizer

    if rank == int(os.environ["RANK"]):
        ppo.load_start = shaken
    try:
        yield
    finally:
        ppo.load_start = load


def main() -> None:
    """Run the jobs; one that fails on every rank is followed by the next."""
    shard_on_cpus()
    for stage, config, how in json.loads(Path(sys.argv[1]).read_text()):
        only = how.pop("only", None)
        if only not in (None, int(os.environ["RANK"])):
            how.pop("fail_at")
        try:
            with another_start(how.pop("other_start", None)):
                run(build(CONFIG_OF[stage], config), **how)
        except FailError:
            if only is not None:
                raise
        except ConfigError as error:
            Path(f"{config['out']}.refused").write_text(str(error))


if __name__ == "__main__":
    main()
