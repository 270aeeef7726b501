import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.evaluate import reward
from rlhf.evaluate.floors import FLOORS, Floors, longer_wins, surface
from rlhf.evaluate.intervals import wilson
from rlhf.evaluate.reward import MODEL, members_of, table
from rlhf.records import Preference, Prompt

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]


def pair(chosen, rejected, prompt="Why?", **provenance):
    return Preference(Prompt.from_text(prompt), chosen, rejected, provenance=provenance)


def pairs(count, seed, better):
    """Pairs of random texts of which ``better`` says the greater one, a tenth the other way."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        texts = sorted(
            (" ".join(draw.choices(WORDS, k=draw.randint(3, 15))) for _ in range(2)), key=better
        )
        chosen, rejected = texts[::-1] if draw.random() > 0.1 else texts
        made.append(pair(chosen, rejected, f"Question {seed} {number}?"))
    return made


def audit(chosen, rejected, held_out, train, cluster=()):
    return reward.audit(chosen, rejected, held_out, Floors.fitted(train), cluster)


def by_name(found) -> dict[str, Any]:
    return {judge.name: judge for judge in found.judges}


def test_the_accuracies_are_those_counted_by_hand():
    held_out = [
        pair("long one", "short", arg="a"),
        pair("a longer one", "tiny", arg="b"),
        pair("x", "yyy", arg="c"),
        pair("same", "size", arg="d"),
    ]
    found = audit([2.0, 1.0, 0.0, 5.0], [1.0, 1.0, 1.0, 0.0], held_out, held_out, ("arg",))
    ours, longer = by_name(found)[MODEL], by_name(found)["longer wins"]
    assert ours.accuracy.value == (1 + 0.5 + 0 + 1) / 4
    assert ours.balanced.value == ((1 + 0.5) / 2 + 0) / 2
    assert longer.accuracy.value == (1 + 1 + 0 + 0.5) / 4
    assert longer.balanced.value == 0.5
    assert longer.behind.value == pytest.approx(0)
    assert ours.behind is None
    assert (found.num_longer_chosen, found.num_shorter_chosen, found.num_clusters) == (2, 1, 4)
    assert found.margin == (1 + 0 - 1 + 5) / 4


def test_where_length_is_all_there_is_the_floors_see_it_and_balance_shows_it():
    train, held_out = pairs(400, 1, len), pairs(200, 2, len)
    found = by_name(audit([0.0] * 200, [0.0] * 200, held_out, train))
    assert found[MODEL].accuracy.value == 0.5
    for name in ("longer wins", "surface features", "TF-IDF + surface"):
        assert found[name].accuracy.value > 0.75, name
    assert found["longer wins"].balanced.value == 0.5
    assert found["longer wins"].behind.high < -0.2


def test_where_words_are_all_there_is_only_tf_idf_sees_it():
    def share(text):
        return text.split().count("alpha") / len(text.split())

    train, held_out = pairs(600, 3, share), pairs(300, 4, share)
    found = by_name(audit([0.0] * 300, [0.0] * 300, held_out, train))
    assert found["TF-IDF"].accuracy.value > 0.75
    assert found["TF-IDF"].balanced.value > 0.7
    assert found["longer wins"].accuracy.value < 0.62
    assert found["surface features"].accuracy.value < found["TF-IDF"].accuracy.value - 0.1


def test_the_model_is_compared_with_each_floor_on_the_same_pairs():
    held_out = pairs(200, 5, len)
    scores = [float(len(p.chosen)) for p in held_out], [float(len(p.rejected)) for p in held_out]
    found = by_name(audit(*scores, held_out, pairs(200, 6, len)))
    behind = found["longer wins"].behind
    assert (behind.value, behind.low, behind.high) == (0, 0, 0)


def test_independent_pairs_have_wilsons_interval_and_clusters_a_wider_one():
    held_out = [pair("long one", "x", f"{n}?", debate=n // 20) for n in range(100)]
    right = [float(n // 20 != 0) for n in range(100)]
    alone = by_name(audit(right, [0.5] * 100, held_out, held_out))[MODEL].accuracy
    assert (alone.low, alone.high) == pytest.approx(wilson(0.8, 100), abs=0.005)  # t, not z
    clustered = by_name(audit(right, [0.5] * 100, held_out, held_out, ("debate",)))[MODEL].accuracy
    assert clustered.low < alone.low - 0.2


def test_pairs_of_one_prompt_are_one_cluster_unless_columns_are_named():
    one, two = pair("a", "b", "Hi", x=1, y=[2]), pair("c", "d", "Hi", x=1)
    assert members_of([one, two], ())[0] == members_of([one, two], ())[1]
    assert members_of([one, two], ("x", "y")) == [(1, "[2]"), (1, None)]


@pytest.mark.parametrize("name", FLOORS)
@given(seed=st.integers(0, 99))
def test_a_floor_turns_its_verdict_with_the_pair(name, seed):
    some = pairs(6, seed, len)
    judge = FLOORS[name](pairs(30, 7, len))
    turned = [pair(p.rejected, p.chosen, p.prompt.text) for p in some]
    assert judge(turned) == pytest.approx([-margin for margin in judge(some)])


def test_the_surface_of_a_text_by_hand():
    found = surface("Why? I, two 2.\nWHY!", "why not")
    # words why i two 2 why; different why i two 2; one of the four is in the prompt
    assert found == pytest.approx(
        [19, 1.791759, 11 / 5, 4 / 5, 3, 1, 1, 1, 1, 1, 5 / 10, 1 / 4], abs=1e-6
    )
    assert surface("", "") == [0.0] * 12
    assert longer_wins([pair("abc", "d")]) == [2.0]


def test_the_table_names_every_judge_and_says_what_it_is_from():
    held_out = pairs(40, 8, len)
    text = table(audit([1.0] * 40, [0.0] * 40, held_out, held_out))
    for name in (MODEL, *FLOORS):
        assert f"| {name} | " in text
    assert "| reward model | 100.0 [" in text
    assert "40 held-out pairs, the longer response chosen in" in text
    assert "clustered by prompt (40)" in text
    same_length = [pair("abc", "abd")]
    assert "| reward model | 100.0 [0.6, 100.0] | - | - |" in table(
        audit([1.0], [0.0], same_length, held_out)
    )
