"""What `rlhf sft` makes of bases of many kinds: it works rightly, or refuses in one sentence."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from rlhf.chat import encode_demonstration
from rlhf.config import SFTConfig, build
from rlhf.errors import ModelError
from rlhf.model.engine.generate import Sampling, sample_ids
from rlhf.model.load import BaseSpec, load_base, load_tokenizer
from rlhf.model.scoring import logprobs, sequences
from rlhf.model.start import Start, load_start
from rlhf.records import Message
from rlhf.stages import sft
from tests import tiny
from tests.bases import NF4, ROWS, Row, of, stored
from tests.stages import watching

pytestmark = pytest.mark.integration
DOCUMENT = Path(__file__).parents[2] / "CONTRIBUTING.md"
QUESTIONS = ("hi", "Where is my mug for Leeds?", "and the lamp?", "why")
WORKING = [row for row in ROWS if row.outcome == "works"]


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory) -> Path:
    return tiny.write_demonstrations(tmp_path_factory.mktemp("data") / "demonstrations.jsonl", 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A row's base, written once."""
    root = tmp_path_factory.mktemp("bases")
    made: dict[str, Path] = {}

    def folder(row: Row) -> Path:
        if row.base not in made:
            made[row.base] = root / re.sub(r"\W+", "-", row.base)
            row.make(made[row.base])
        return made[row.base]

    return folder


def trained(row: Row, base: Path, out: Path, data: Path) -> Path:
    """Two steps on all rows at once."""
    keys = {
        "out": str(out),
        "model": {"base": str(base), "tuning": row.tuning, "lora": {"rank": 4}},
        "data": {"train": [{"path": str(data)}], "max_length": 200, "eval_fraction": 0},
        "per_device_train_batch_size": 4,
        "max_steps": 2,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "warmup_steps": 0,
    }
    return sft.run(build(SFTConfig, keys))


def pattern(sentence: str) -> str:
    return ".*".join(map(re.escape, sentence.split("…")))


def name(row: Row) -> str:
    return f"{row.base}, {row.tuning}"


@pytest.mark.parametrize("row", [row for row in ROWS if row not in WORKING], ids=name)
def test_what_cannot_be_a_base_is_refused_in_one_sentence(row, folder, demonstrations, tmp_path):
    base = folder(row)
    with pytest.raises(ModelError) as refusal:
        trained(row, base, tmp_path / "sft", demonstrations)
    assert re.fullmatch(f"{re.escape(str(base))}: {pattern(row.outcome)}", str(refusal.value))


@pytest.mark.parametrize("row", WORKING, ids=name)
def test_a_base_that_works_trains_samples_and_comes_back_as_plain_transformers_has_it(
    row, folder, demonstrations, tmp_path, monkeypatch
):
    base = folder(row)
    with watching(monkeypatch) as seen:
        out = trained(row, base, tmp_path / "sft", demonstrations)
    [stage] = seen
    assert stage.before == stage.after
    first = next(entry["loss"] for entry in stage.trainer.state.log_history)
    rows = stage.trainer.train_dataset
    begun = load_base(BaseSpec(str(base), storage="nf4" if row.tuning == "qlora" else "none"))
    assert_close(first, loss(begun, rows), rtol=2e-4, atol=2e-4)  # logged with 4 digits

    model, tokenizer = load_start(Start.of_run(out))
    ids = torch.tensor(rows[0]["input_ids"])[None]
    with torch.no_grad():
        assert_close(model.eval()(ids).logits, stage.model.eval()(ids).logits, rtol=0, atol=0)
    padding_does_not_matter(model, tokenizer)


def loss(model, rows) -> float:
    """Mean over the labelled tokens, one row at a time and without any padding."""
    losses = []
    for row in rows:
        ids, labels = (torch.tensor(row[key])[None] for key in ("input_ids", "labels"))
        with torch.no_grad():
            logits = model(ids, use_cache=False).logits.float().log_softmax(-1)[0, :-1]
        kept = labels[0, 1:] != -100
        losses.append(-logits[torch.arange(len(logits)), ids[0, 1:]][kept])
    return torch.cat(losses).mean().item()


def padding_does_not_matter(model, tokenizer) -> None:
    """Rows are sampled and judged alike alone, padded on the left, and padded on the right."""
    prompts = [tokenizer(text)["input_ids"] for text in QUESTIONS]
    together = sample_ids(model, tokenizer, prompts, Sampling(max_new_tokens=24, seed=0))
    pad = tokenizer.pad_token_id
    alone = [
        sample_ids(model, tokenizer, [ids], Sampling(max_new_tokens=24, seed=0, first=i))[0]
        for i, ids in enumerate(prompts)
    ]
    assert together == alone
    with torch.no_grad():
        batch = sequences(prompts, together, pad_id=pad, device=model.device)
        for i, (ids, said) in enumerate(zip(prompts, alone, strict=True)):
            one = sequences([ids], [said], pad_id=pad, device=model.device)
            theirs = logprobs(model, batch)[i, : len(said)]
            assert_close(theirs, logprobs(model, one)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("row", [row for row in WORKING if "stored" not in row.base], ids=name)
def test_the_loss_of_an_unquantised_base_is_that_of_plain_transformers(row, folder):
    base = folder(row)
    tokenizer = load_tokenizer(str(base))
    turns = [Message("user", "Where is my mug?"), Message("assistant", "It is on its way.")]
    ids, labels = encode_demonstration(tokenizer, turns)
    rows = [{"input_ids": ids, "labels": labels}]
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    prompt, said = ids[: labels.count(-100)], ids[labels.count(-100) :]
    batch = sequences([prompt], [said], pad_id=0, device=torch.device("cpu"))
    with torch.no_grad():
        ours = -logprobs(load_base(BaseSpec(str(base), storage="none")), batch).mean()
    assert_close(ours.item(), loss(plain, rows), rtol=1e-5, atol=1e-5)


def test_a_base_stored_as_we_store_it_is_that_storage_bit_for_bit(tmp_path):
    of("llama")(tmp_path / "whole")
    stored(**NF4)(tmp_path / "stored")
    fresh, back = (load_base(BaseSpec(str(tmp_path / name))) for name in ("whole", "stored"))
    ours, theirs = fresh.state_dict(), back.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert len(load_file(tmp_path / "stored" / "model.safetensors")) > len(list(fresh.parameters()))
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert torch.equal(fresh(ids).logits, back(ids).logits)


def test_the_document_holds_this_table():
    table = [f"| {row.base} | {row.tuning} | {row.outcome} |" for row in ROWS]
    lines = DOCUMENT.read_text().splitlines()
    start = lines.index("| base | tuning | outcome |") + 2
    assert [line for line in lines[start:] if line.startswith("|")] == table
