"""What an export for TRL is worth: TRL's own trainers take it as it is, and take a step on it."""

from contextlib import closing
from pathlib import Path

import pytest
from datasets import Dataset, load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl.data_utils import is_conversational
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from labeling_ui.__main__ import main
from labeling_ui.campaigns.answers import Answer
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.campaigns.tasks import Settings
from labeling_ui.db.store import Store
from tests.labeling import PASSWORD, cheap_accounts, tasks

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight comparisons of two-turn prompts with one vote each, two of them ties."""
    path = tmp_path_factory.mktemp("votes") / "label.db"
    with closing(Store(path)) as store:
        ann = cheap_accounts(store).add("ann", PASSWORD, "rater").id
        campaigns = Campaigns(store)
        campaigns.add("one", tasks(8), settings=Settings())
        for number in range(8):
            item = campaigns.next("one", ann).item
            assert item is not None
            polite = "left" if "Monday" in item.responses[0] else "right"
            choice = "tie" if number % 4 == 3 else polite
            campaigns.submit("one", ann, Answer(item.assignment, choice, f"key-{number}"))
    return path


def exported(database: Path, tmp_path: Path, form: str, container: str = "jsonl"):
    folder = tmp_path / "out"
    options = ["--format", form, "--as", container, "--db", str(database)]
    assert main(["export", "one", str(folder), *options]) == 0
    [file] = [path for path in folder.iterdir() if path.name != "README.md"]
    kind = "json" if container == "jsonl" else container
    found = load_dataset(kind, data_files=str(file), cache_dir=str(tmp_path / "cache"))["train"]
    assert is_conversational(found[0])
    return found


def arguments(kind, tmp_path: Path, **keys):
    return kind(
        output_dir=str(tmp_path / "trained"), max_steps=1, per_device_train_batch_size=6,
        learning_rate=1e-2, use_cpu=True, report_to=[], save_strategy="no", bf16=False,
        activation_checkpointing=False, logging_steps=1, max_length=200, **keys,
    )  # fmt: skip


def loss_of(trainer) -> float:
    trainer.train()
    [first] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return first


LORA = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")


@pytest.mark.parametrize("container", ["jsonl", "parquet"])
def test_trls_dpo_trainer_takes_a_step_on_the_pairs(container, base, database, tmp_path):
    rows = exported(database, tmp_path, "trl-paired", container)
    assert len(rows) == 6
    trainer = DPOTrainer(
        AutoModelForCausalLM.from_pretrained(base),
        args=arguments(DPOConfig, tmp_path),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LORA,
    )
    # before the first step the policy is the reference: -log sigmoid(0)
    assert loss_of(trainer) == pytest.approx(0.6931, abs=1e-3)


def test_trls_reward_trainer_takes_a_step_on_the_pairs(base, database, tmp_path):
    rows = exported(database, tmp_path, "trl-paired")
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    trainer = RewardTrainer(
        model,
        args=arguments(RewardConfig, tmp_path),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    prepared = trainer.train_dataset
    assert isinstance(prepared, Dataset)
    assert "margin" not in prepared.column_names
    assert len(prepared) == 6
    assert loss_of(trainer) > 0


def test_trls_kto_trainer_takes_a_step_on_the_responses(base, database, tmp_path):
    rows = exported(database, tmp_path, "trl-unpaired")
    assert sorted(rows["label"]) == [False] * 6 + [True] * 6
    trainer = KTOTrainer(
        AutoModelForCausalLM.from_pretrained(base),
        args=arguments(KTOConfig, tmp_path),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LORA,
    )
    assert loss_of(trainer) == pytest.approx(0.5, abs=1e-3)
