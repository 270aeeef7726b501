"""The few figures by which runs are told apart, each read from what the run has logged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlhf.runs.run import FinishedRun

_METRICS = {
    "loss": ("eval_loss",),
    "accuracy": ("eval_accuracy", "eval_rewards/accuracies"),
    "score": ("eval_objective/scores", "objective/scores"),
    "kl": ("eval_objective/kl", "objective/kl"),
    "length": ("eval_response_length", "response_length"),
}
"""Where each figure stands: on held-out rows or prompts, or else in training."""
FIGURES = tuple(_METRICS)
_MOST_FIRST = ("accuracy", "score")


@dataclass(frozen=True, slots=True)
class Summary:
    """A finished run in one line; ``figures`` are by name, ``metrics`` what they are logged as."""

    path: str
    stage: str
    finished: str
    seconds: float
    figures: dict[str, float]
    metrics: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """One flat object; a figure that the run has not is null."""
        own = {name: getattr(self, name) for name in ("path", "stage", "finished", "seconds")}
        return own | {name: self.figures.get(name) for name in FIGURES} | {"metrics": self.metrics}

    def __str__(self) -> str:
        figures = (f"{self._named(name)} {value:.4g}" for name, value in self.figures.items())
        own = (self.path, self.stage, self.finished[:16], f"{self.seconds:.0f} s")
        return "  ".join([*own, *figures])

    def _named(self, figure: str) -> str:
        held_out = self.metrics[figure].startswith("eval_")
        return f"eval {figure}" if held_out else f"training {figure}"


def summary(run: FinishedRun) -> Summary:
    """What ``run`` came to: its last figures, or those of the step that it kept as the best."""
    lines = run.read_metrics()
    if run.config.get("early_stopping_patience") is not None:
        lines = [line for line in lines if line["step"] <= run.facts["best_step"]]
    last = {name: value for line in lines for name, value in line.items() if value is not None}
    metrics = {
        figure: name
        for figure, names in _METRICS.items()
        if (name := next((name for name in names if name in last), None))
    }
    figures = {figure: float(last[name]) for figure, name in metrics.items()}
    facts = run.facts
    return Summary(
        str(run.path), run.stage, facts["finished"], facts["wall_seconds"], figures, metrics
    )


def ordered(runs: Sequence[Summary], by: str) -> list[Summary]:
    """Runs by a figure, the best first, or by another field; those without the figure come last."""
    if by not in FIGURES:
        return sorted(runs, key=lambda run: getattr(run, by))
    sign = -1 if by in _MOST_FIRST else 1
    return sorted(runs, key=lambda run: sign * run.figures.get(by, sign * float("inf")))
