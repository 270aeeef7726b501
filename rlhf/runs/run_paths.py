"""What the files of a run folder are called; what is in them is :mod:`rlhf.runs`' business."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rlhf.runs import disk

PARTIAL = ".partial"
"""What the folder of a run is called after until it is finished."""


@dataclass(frozen=True)
class RunFolder:
    """A run on disk: the one place that knows what its files are called."""

    path: Path

    @property
    def config_file(self) -> Path:
        """The config that made the run, resolved."""
        return self.path / "config.yaml"

    @property
    def adapter(self) -> Path:
        """The trained adapter, as PEFT saves it."""
        return self.path / "adapter"

    @property
    def model(self) -> Path:
        """The whole model, where no adapter was used."""
        return self.path / "model"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer with its chat template."""
        return self.path / "tokenizer"

    @property
    def head(self) -> Path:
        """The score head of a reward run."""
        return self.path / "score_head.safetensors"

    @property
    def value_head(self) -> Path:
        """The value head of a PPO run."""
        return self.path / "value_head.safetensors"

    @property
    def report(self) -> Path:
        """The page about the run."""
        return self.path / "report.html"

    @property
    def comparison(self) -> Path:
        """The page of a compare run."""
        return self.path / "index.html"

    @property
    def results(self) -> Path:
        """The numbers of a compare run."""
        return self.path / "results.json"

    @property
    def responses(self) -> Path:
        """Every prompt of a compare run with its responses, one case a line."""
        return self.path / "responses.jsonl"

    @property
    def comparisons(self) -> Path:
        """The pairs of a compare run, as records."""
        return self.path / "comparisons.jsonl"

    @property
    def demonstrations(self) -> Path:
        """The responses that a best-of-n run kept, as records."""
        return self.path / "demonstrations.jsonl"

    @property
    def audit(self) -> Path:
        """What `rlhf evaluate reward` found, for programs; beside it ``.md``, for people."""
        return self.path / "audit.json"

    @property
    def card(self) -> Path:
        """The model card."""
        return self.path / "README.md"

    @property
    def metrics(self) -> Path:
        """One JSON object per logged step."""
        return self.path / "metrics.jsonl"

    def read_metrics(self) -> list[dict[str, Any]]:
        """Every logged line, in order."""
        return [json.loads(line) for line in disk.whole_lines(self.metrics)]

    def read_config(self) -> dict[str, Any]:
        """The config that made the run, as plain data."""
        return yaml.safe_load(self.config_file.read_text(encoding="utf-8"))
