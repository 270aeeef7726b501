import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlhf.chat import IGNORED, encode_prompt, encode_response
from rlhf.config import DataConfig, SourceConfig
from rlhf.data.tokenized import (
    feedback_dataset,
    preference_dataset,
    prompt_dataset,
    reward_dataset,
    sft_dataset,
)
from rlhf.errors import DataError
from rlhf.records import Demonstration, Feedback, Message, Preference, Prompt

TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}{{ m.content }}"
    "{% if m.role == 'assistant' %}<end>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}a{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"


def bytes_tokenizer(template=TEMPLATE):
    vocab = {t: i for i, t in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), "<end>"])}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", pad_token="<end>")
    tokenizer.chat_template = template
    return tokenizer


TOKENIZER = bytes_tokenizer()
END = TOKENIZER.eos_token_id
HI = Prompt.from_text("Hi")


def config(max_length=100, max_dropped=0.5):
    source = SourceConfig(path="a.jsonl")
    return DataConfig(train=[source], max_length=max_length, max_dropped=max_dropped)


def text(ids):
    return TOKENIZER.decode(ids)


def preference(chosen, rejected="no", **fields):
    return Preference(HI, chosen, rejected, provenance={"origin": f"a.jsonl:{chosen}"}, **fields)


def test_dpo_sees_the_prompt_once_and_two_responses_that_end():
    [row] = preference_dataset([preference("yes")], TOKENIZER, config()).to_list()
    assert row.pop("length") == len(row["prompt_ids"]) + len(row["chosen_ids"])
    assert {k: text(v) for k, v in row.items()} == {
        "prompt_ids": "uHia", "chosen_ids": "yes<end>", "rejected_ids": "no<end>",
    }  # fmt: skip


def test_kto_sees_one_response_and_whether_it_is_good():
    [row] = feedback_dataset([Feedback(HI, "ok", good=False)], TOKENIZER, config()).to_list()
    assert row["prompt_ids"] == encode_prompt(TOKENIZER, HI)
    assert row["completion_ids"] == encode_response(TOKENIZER, HI, "ok")
    assert row["label"] is False
    assert row["length"] == len(row["prompt_ids"]) + len(row["completion_ids"])


def test_the_reward_model_sees_prompt_and_response_joined():
    [row] = reward_dataset([preference("yes", margin=0.6)], TOKENIZER, config()).to_list()
    assert row.pop("length") == len(row["chosen_ids"])
    assert {k: text(v) for k, v in row.items()} == {
        "chosen_ids": "uHiayes<end>", "rejected_ids": "uHiano<end>",
    }  # fmt: skip


def test_the_margin_is_there_when_asked_for_and_its_absence_is_named():
    records = [preference("yes", margin=0.6), preference("sure")]
    [row] = reward_dataset(records[:1], TOKENIZER, config(), use_margin=True).to_list()
    assert row["margin"] == 0.6
    with pytest.raises(DataError, match=r"a.jsonl:sure: has no margin; set use_margin: false"):
        reward_dataset(records, TOKENIZER, config(), use_margin=True)


def test_only_what_the_assistant_says_has_a_label():
    turns = [Message("user", "Hi"), Message("assistant", "yes"), Message("user", "And?"),
             Message("assistant", "no")]  # fmt: skip
    [row] = sft_dataset([Demonstration(tuple(turns))], TOKENIZER, config()).to_list()
    assert text(row["input_ids"]) == "uHiayes<end>uAnd?ano<end>"
    assert [i for i in row["labels"] if i != IGNORED] == [
        i for m in (turns[1], turns[3]) for i in [*TOKENIZER(m.content)["input_ids"], END]
    ]


def test_prompts_leave_room_for_the_response_and_know_their_place():
    prompts = [Prompt.from_text("much too long a question"), HI]
    dataset = prompt_dataset(prompts, TOKENIZER, config(20), room=10)
    ids = encode_prompt(TOKENIZER, HI)
    assert dataset.to_list() == [{"prompt_ids": ids, "index": 1, "length": len(ids) + 10}]


def test_rows_that_are_too_long_are_left_out_counted_and_named(caplog):
    records = [preference("y" * n) for n in (1, 9, 10, 2)]  # 4 + n + 1 tokens
    with caplog.at_level(logging.WARNING):
        dataset = preference_dataset(records, TOKENIZER, config(14))
    assert [len(row["chosen_ids"]) - 1 for row in dataset.to_list()] == [1, 9, 2]
    assert caplog.messages == [
        "1 of 4 rows are longer than 14 tokens and are left out: a.jsonl:yyyyyyyyyy (15)"
    ]


def test_too_many_or_all_of_them_too_long_is_refused():
    records = [preference("y" * n) for n in (1, 10, 11, 2)]
    with pytest.raises(DataError, match=r"2 of 4 rows \(50%\) are longer than max_length \(14 tok"):
        reward_dataset(records, TOKENIZER, config(14, max_dropped=0.4))
    with pytest.raises(DataError, match=r"every one of the 2 rows .* data.max_length to 16 or sho"):
        reward_dataset(records[1:3], TOKENIZER, config(14, max_dropped=1.0))


def test_a_record_that_the_template_refuses_is_named():
    strict = bytes_tokenizer(NO_SYSTEM + TEMPLATE)
    prompt = Prompt((Message("system", "Be."), *HI.messages), {"origin": "b.csv:7"})
    with pytest.raises(DataError, match=r"b.csv:7: the tokenizer's chat template refuses"):
        prompt_dataset([HI, prompt], strict, config(max_dropped=0.4))


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0<"), max_size=12))
def test_the_ids_are_those_of_chat_for_any_response(answer):
    [row] = reward_dataset([preference(answer)], TOKENIZER, config()).to_list()
    assert row["chosen_ids"] == encode_prompt(TOKENIZER, HI) + encode_response(
        TOKENIZER, HI, answer
    )
    assert row["chosen_ids"].count(END) == 1


def test_answers_that_the_template_rewrites_are_counted_on_the_screen(caplog):
    forgetful = TEMPLATE.replace(
        "{{ m.content }}",
        "{{ 'gone' if m.role == 'assistant' and not loop.last else m.content }}",
    )
    turns = [Message("user", "Hi"), Message("assistant", "yes")] * 2
    records = [Demonstration(tuple(turns)), Demonstration(tuple(turns[:2]))]
    with caplog.at_level(logging.WARNING):
        sft_dataset(records, TOKENIZER, config())
        assert not caplog.records
        sft_dataset(records, bytes_tokenizer(forgetful), config())
    assert [r.message[:32] for r in caplog.records] == ["1 of 3 answers teach nothing: wh"]
