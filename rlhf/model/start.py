"""Where a stage starts: a base with a new adapter, or what an earlier run left behind."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from rlhf.config import ModelConfig, Tuning
from rlhf.errors import ModelError
from rlhf.model.adapters import load_adapter, new_adapter
from rlhf.model.checks.base_checks import refuse_unknown_tokens
from rlhf.model.load import BaseSpec, fingerprint, load_base, load_tokenizer
from rlhf.runs import POLICY_STAGES, open_run


@dataclass(frozen=True, slots=True)
class Start:
    """All that is needed to load a model as a run, or a config, describes it."""

    spec: BaseSpec
    tuning: Tuning
    tokenizer: str
    fingerprint: str
    adapter: Path | None = None
    parent: Path | None = None

    @classmethod
    def of_config(cls, config: ModelConfig) -> Self:
        """A base that nothing was trained on yet.

        Full fine-tuning keeps its weights in fp32 and computes under autocast.
        """
        spec = BaseSpec.of(config)
        if config.tuning == "full" and config.dtype == "auto":
            spec = replace(spec, dtype="float32")
        return cls(spec, config.tuning, config.base, fingerprint(spec))

    @classmethod
    def of_run(cls, path: str | Path, stage: str | tuple[str, ...] = POLICY_STAGES) -> Self:
        """What a finished run trained.

        Raises:
            RunError: not a finished run of that stage.
            ModelError: its base is gone, or is another one now.
        """
        run = open_run(path, stage)
        facts = dict(run.facts["base"])
        tuning, trained_on = facts.pop("tuning"), facts.pop("fingerprint")
        spec = BaseSpec(**facts)
        if tuning == "full":
            spec = replace(spec, path=str(run.model), revision=None)
            trained_on = fingerprint(spec)
        elif fingerprint(spec) != trained_on:
            raise ModelError(
                f"{path}: its adapter was trained on another base than the one that is now at "
                f"{spec.path}; put the old base back or train again"
            )
        adapter = None if tuning == "full" else run.adapter
        return cls(spec, tuning, str(run.tokenizer), trained_on, adapter, run.path)

    def facts(self) -> dict[str, Any]:
        """What a run that starts here records about its base."""
        return {**asdict(self.spec), "tuning": self.tuning, "fingerprint": self.fingerprint}


def starting_point(config: ModelConfig | None, run: str | None) -> Start:
    """The start that a stage's config names: exactly one of a model and a run."""
    if run is not None:
        return Start.of_run(run)
    assert config is not None
    return Start.of_config(config)


def load_start(
    start: Start, config: ModelConfig | None = None
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerFast]:
    """The model to train and its tokenizer.

    A ``PeftModel`` whose trainable adapter is called ``default``, or the whole model for full
    fine-tuning.
    """
    tokenizer = load_tokenizer(start.tokenizer, None if start.parent else start.spec.revision)
    base = load_base(start.spec)
    refuse_unknown_tokens(tokenizer, base)
    if start.tuning == "full":
        return base.requires_grad_(requires_grad=True), tokenizer
    if start.adapter is not None:
        return load_adapter(base, start.adapter), tokenizer
    assert config is not None
    return new_adapter(base, config), tokenizer
