import json
import random

import pytest
import torch

from rlhf.chat import encode_completion, encode_demonstration
from rlhf.config import PretrainConfig, build
from rlhf.errors import ConfigError, DataError
from rlhf.model.load import BaseSpec, load_base, load_tokenizer
from rlhf.records import Message
from rlhf.runs import open_run
from rlhf.sandbox.corpus import END, documents
from rlhf.sandbox.staff import ideal
from rlhf.sandbox.world import prompts
from rlhf.stages import pretrain

pytestmark = pytest.mark.integration

ARCHITECTURE = {
    "model_type": "llama",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}


def config(out, train, **more):
    keys = {
        "out": str(out),
        "architecture": ARCHITECTURE,
        "vocab_size": 700,
        "data": {"train": [train], "eval": [{**train, "limit": 20}], "max_length": 200},
        "max_steps": 4,
        "save_steps": 2,
        "eval_steps": 2,
        "logging_steps": 1,
        "learning_rate": 1e-2,
    }
    return build(PretrainConfig, {**keys, **more})


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base that was made from the sandbox's corpus, in its run folder."""
    out = tmp_path_factory.mktemp("runs") / "base"
    return open_run(pretrain.run(config(out, {"path": "sandbox:corpus", "limit": 200})), "pretrain")


def test_a_base_from_nothing_loads_in_nf4_and_has_learned(base):
    model = load_base(BaseSpec(str(base.model)))
    assert model.config.vocab_size == len(load_tokenizer(str(base.model)))
    losses = [line["eval_loss"] for line in base.read_metrics() if "eval_loss" in line]
    assert losses[-1] < losses[0]


def test_the_new_tokenizer_writes_chats_as_the_corpus_does(base):
    tokenizer = load_tokenizer(str(base.model))
    [prompt] = prompts(0, 1)
    said = ideal(prompt)
    ids, labels = encode_demonstration(tokenizer, [*prompt.messages, Message("assistant", said)])
    chat = f"<|im_start|>user\n{prompt.text}{END}\n<|im_start|>assistant\n"
    assert (ids, labels) == encode_completion(tokenizer, chat, said + END)
    assert tokenizer.decode(ids[-1:]) == END


def test_digits_stand_alone_so_that_unseen_numbers_are_made_of_seen_tokens(base):
    tokenizer = load_tokenizer(str(base.model))
    rng = random.Random(0)
    for number in (rng.randrange(1000, 10000) for _ in range(20)):
        assert tokenizer.tokenize(str(number)) == list(str(number))


def test_a_base_is_trained_further_on_plain_text(base, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(d.completion.split(END)[0] for d in documents(5, 100)))
    more = {"architecture": None, "vocab_size": None, "base": str(base.model)}
    run = open_run(pretrain.run(config(tmp_path / "more", {"path": str(text)}, **more)))
    before = load_base(BaseSpec(str(base.model), storage="none")).state_dict()
    after = load_base(BaseSpec(str(run.model), storage="none")).state_dict()
    assert before.keys() == after.keys()
    assert not torch.equal(before["lm_head.weight"], after["lm_head.weight"])


def test_only_assistant_turns_of_conversations_are_learned(base, tmp_path):
    talks = tmp_path / "talks.jsonl"
    talk = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    talks.write_text(json.dumps(talk) + "\n")
    tokenizer = load_tokenizer(str(base.model))
    chosen = config(tmp_path / "x", {"path": str(talks), "format": "messages"})
    [row] = pretrain.encoded_rows(chosen, chosen.data.train, tokenizer, 0)
    assert sum(label != -100 for label in row["labels"]) == len(tokenizer.encode("b")) + 1


def test_documents_longer_than_the_context_are_refused_when_they_are_many(tmp_path):
    short = config(tmp_path / "x", {"path": "sandbox:corpus", "limit": 50})
    data = {"train": [{"path": "sandbox:corpus", "limit": 50}], "max_length": 16}
    with pytest.raises(DataError, match=r"longer than data.max_length \(16 tokens\)"):
        pretrain.run(build(PretrainConfig, {**json.loads(json.dumps(_plain(short))), "data": data}))
    assert not (tmp_path / "x").exists()


def _plain(made):
    return {
        "out": made.out,
        "architecture": made.architecture,
        "vocab_size": made.vocab_size,
        "max_steps": 1,
    }


@pytest.mark.parametrize(
    ("architecture", "sentence"),
    [
        ({"model_type": "lama"}, "no causal model can be made of it"),
        (ARCHITECTURE | {"hidden_sise": 8}, "llama knows no `hidden_sise`"),
    ],
)
def test_an_architecture_that_does_not_exist_is_refused(tmp_path, architecture, sentence):
    wrong = config(
        tmp_path / "x", {"path": "sandbox:corpus", "limit": 9}, architecture=architecture
    )
    with pytest.raises(ConfigError, match=sentence):
        pretrain.run(wrong)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"base": "somewhere"}, "name either `base` to train on, or the `architecture`"),
        ({"vocab_size": None}, "name either a `tokenizer`, or the `vocab_size`"),
    ],
)
def test_a_base_has_one_origin(tmp_path, more, sentence):
    with pytest.raises(ConfigError, match=sentence):
        config(tmp_path / "x", {"path": "sandbox:corpus"}, **more)
