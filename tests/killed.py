"""Stages that are killed in the middle: ``python -m tests.killed CONFIGS STEP``.

CONFIGS is a JSON file of ``[[stage, config], ...]``. Each stage runs in a fork of one process, so
that the libraries are imported once, and kills itself with SIGKILL after STEP optimizer steps.
"""

import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import CallbackHandler

from rlhf.config import CONFIG_OF, build


class Killer(TrainerCallback):
    """Pulls the plug."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):  # noqa: ARG002 - their names
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def module_of(stage: str) -> str:
    """Where a stage lives."""
    return f"rlhf.stages.{stage.replace('-', '_')}"


def _die(stage: str, config: dict[str, Any], step: int) -> None:
    make = CallbackHandler.__init__

    def with_killer(self, *args, **kwargs):
        make(self, *args, **kwargs)
        self.add_callback(Killer(step))

    CallbackHandler.__init__ = with_killer
    module = importlib.import_module(module_of(stage))
    module.run(build(CONFIG_OF[stage], config))


def main() -> None:
    """Run each stage up to its death; exit 0 if each died by SIGKILL."""
    configs, step = json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])
    for stage, _ in configs:
        importlib.import_module(module_of(stage))
    for stage, config in configs:
        child = os.fork()
        if child == 0:
            _die(stage, config, step)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"{stage} ended with status {status}"
        assert os.WTERMSIG(status) == signal.SIGKILL


if __name__ == "__main__":
    main()
