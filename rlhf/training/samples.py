"""What a policy writes after its training, beside what its reference writes, for the report."""

from collections.abc import Iterator, Sequence
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from rlhf.chat import decode_response, encode_prompt
from rlhf.errors import RenderError
from rlhf.model.bases import context_length
from rlhf.model.engine.generate import Sampling, sample_ids
from rlhf.model.roles import ADAPTER_OF, acting_as
from rlhf.model.shards import is_sharded
from rlhf.records import Demonstration, Feedback, Preference, Prompt
from rlhf.runs import Run

_NUM_SAMPLES = 6
_LONGEST = 128


def record_samples(
    run: Run,
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerFast,
    records: Sequence[Demonstration | Preference | Prompt | Feedback],
) -> None:
    """Record a few likeliest responses to the prompts of ``records`` that leave room for one.

    A model that several processes hold in parts writes none.
    """
    if not run.writes or is_sharded(model):
        return
    encoded = _encoded(tokenizer, records[: 4 * _NUM_SAMPLES])
    most = context_length(model) - _LONGEST
    asked = [(prompt, ids) for prompt, ids in encoded if len(ids) <= most][:_NUM_SAMPLES]
    if not asked:
        return

    def respond() -> list[str]:
        drawn = sample_ids(model, tokenizer, [ids for _, ids in asked], Sampling(_LONGEST, 0.0))
        return [decode_response(tokenizer, ids) for ids in drawn]

    columns = {run.facts["stage"]: respond()}
    if isinstance(model, PeftModel) and ADAPTER_OF["reference"] in model.peft_config:
        with acting_as(model, "reference"):
            columns = {"reference": respond()} | columns
    samples: list[dict[str, Any]] = [
        {"prompt": prompt.text, "responses": dict(zip(columns, texts, strict=True))}
        for (prompt, _), *texts in zip(asked, *columns.values(), strict=True)
    ]
    run.record(samples=samples)


def _encoded(
    tokenizer: PreTrainedTokenizerFast,
    records: Sequence[Demonstration | Preference | Prompt | Feedback],
) -> Iterator[tuple[Prompt, list[int]]]:
    """The prompts that the chat template can write; the others were named before the training."""
    for prompt in map(_prompt, records):
        try:
            yield prompt, encode_prompt(tokenizer, prompt)
        except RenderError:
            continue


def _prompt(record: Demonstration | Preference | Prompt | Feedback) -> Prompt:
    if isinstance(record, Prompt):
        return record
    if isinstance(record, (Preference, Feedback)):
        return record.prompt
    turns = [i for i, message in enumerate(record.messages) if message.role == "assistant"]
    return Prompt(record.messages[: turns[-1]], tools=record.tools)
