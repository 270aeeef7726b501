"""The most memory and the time that each phase of a stage takes, on a GPU or, for tests, a CPU."""

import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import nn
from transformers import Trainer, TrainerCallback

from rlhf.model.engine import engines
from rlhf.rollouts import collector
from tests.benchmarks.roofline import synchronize
from tests.live import Live, stored


class Meter:
    """Peaks and seconds by phase; a phase that comes again counts by its last time.

    On a GPU the peak is the allocator's. Without one it is counted from all tensors that are alive
    (``tests.live``), which is slow and good for comparing bytes only.
    """

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.steps = 0
        self._phase: str | None = None
        self._started = 0.0
        self._live: Live | None = None
        self._held = 0

    def begin(self, phase: str) -> None:
        """End the phase that is on, and begin another."""
        self.end()
        self._phase = phase
        if self._live is not None:
            self._live.restart()
        else:
            torch.cuda.reset_peak_memory_stats()
        self._started = time.perf_counter()

    def end(self) -> None:
        """Take down the phase that is on."""
        synchronize()
        if self._phase is None:
            return
        self.seconds[self._phase] = time.perf_counter() - self._started
        live = self._live
        self.peaks[self._phase] = (
            torch.cuda.max_memory_allocated() if live is None else self._held + live.peak
        )
        self._phase = None

    @contextmanager
    def watching(self) -> Generator[None]:
        """Measure whatever Trainer trains inside the block."""
        train, collect = Trainer.train, collector.Collector.collect
        sample = engines.sample_ids

        def trained(trainer: Trainer, *args: Any, **kwargs: Any) -> Any:
            trainer.add_callback(_Steps(self))
            with ExitStack() as stack:
                if not torch.cuda.is_available():
                    self._held = stored(cast("nn.Module", trainer.model))
                    self._live = stack.enter_context(Live())
                result = train(trainer, *args, **kwargs)
                self.end()
            return result

        def sampled(*args: Any, **kwargs: Any) -> Any:
            self.begin("sampling")
            result = sample(*args, **kwargs)
            self.begin("scoring")
            return result

        def collected(*args: Any, **kwargs: Any) -> Any:
            result = collect(*args, **kwargs)
            self.begin("training")
            self.steps = 0
            return result

        with (
            patch.object(Trainer, "train", trained),
            patch.object(engines, "sample_ids", sampled),
            patch.object(collector.Collector, "collect", collected),
        ):
            yield


class _Steps(TrainerCallback):
    """Training without rollouts is measured from the second step on: the first one warms up."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        if not self._meter.peaks and self._meter._phase is None:
            self._meter.begin("training")
        else:
            self._meter.steps += 1
