import json
from typing import get_args

import pytest

from labeling_ui.__main__ import main
from labeling_ui.campaigns.tasks import Kind
from labeling_ui.pages.keymap import OWN, Keymap, load_keymap, of_kind
from labeling_ui.pages.rate import ANSWERS, STRENGTHS, Layout
from rlhf.errors import ConfigError


@pytest.fixture
def own(tmp_path):
    def write(content) -> Keymap:
        path = tmp_path / "keys.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return load_keymap(path)

    return write


@pytest.mark.parametrize("kind", OWN)
def test_every_answer_of_a_kind_has_a_key_and_no_key_two_meanings(kind):
    keymap = of_kind(load_keymap(), kind)
    assert {*OWN[kind], "skip", "undo", "reason", "exact", "help"} <= keymap.keys()
    keys = [key for keys in keymap.values() for key in keys]
    assert len(keys) == len(set(keys))
    assert not {a for other, own in OWN.items() if other != kind for a in own} & keymap.keys()


def test_every_answer_has_a_key_of_some_kind():
    assert {*ANSWERS, *STRENGTHS} - {"skip"} == {*OWN["pairwise"]}
    assert OWN.keys() == {*get_args(Kind)}


def test_one_key_may_do_different_things_at_tasks_of_different_kinds(own):
    keymap = own({"left": ["q"], "bad": ["q"], "rank_3": ["q"]})
    assert of_kind(keymap, "thumbs")["bad"] == of_kind(keymap, "pairwise")["left"] == ("q",)


def test_a_file_of_ones_own_changes_what_it_names_and_nothing_else(own):
    keymap = own({"left": ["A", "j"], "skip": "k"})
    assert keymap["left"] == ("a", "j")
    assert keymap["skip"] == ("k",)
    assert keymap["right"] == load_keymap()["right"]


def test_keys_may_change_places(own):
    assert own({"left": ["2"], "right": ["1"]})["left"] == ("2",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "is not an object"),
        ({"vote": ["v"]}, "'vote' is no action; there are left, right"),
        ({"left": []}, "left needs one printable character"),
        ({"left": ["ab"]}, "left needs one printable character"),
        ({"left": [" "]}, "left needs one printable character"),
        ({"left": ["\x00"]}, "left needs one printable character"),
        ({"left": 1}, "left needs one printable character"),
        ({"left": ["a", None]}, "left needs one printable character"),
        ({"left": ["2"]}, "key '2' would do both left and right"),
        ({"left": ["q"], "skip": ["1"]}, "key '1' would do both skip and rank_1; choose another"),
        ({"skip": ["="]}, "key '=' would do both skip and rank_tie"),
        ({"undo": ["e"]}, "key 'e' would do both undo and rewrite"),
        ({"good": ["2"]}, "key '2' would do both good and bad"),
        ({"left": ["a", "a"]}, "key 'a' would do both left and left"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_in_a_sentence(own, content, said):
    with pytest.raises(ConfigError, match=said) as refused:
        own(content)
    assert "keys.json: " in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for name in ("nowhere.json", "bytes"):
        assert main(["serve", "--port", "0", "--keymap", name]) == 1
        assert f"{name}: the keymap cannot be read" in capsys.readouterr().err


def test_the_page_shows_the_keys_that_are_in_force_and_takes_hostile_ones_as_text(own):
    html = Layout(own({"left": ["<"], "right": ['"'], "tie": ["&"]})).html()
    assert "<kbd>&lt;</kbd>" in html
    assert 'aria-keyshortcuts="&quot;"' in html
    assert "<kbd>&amp;</kbd>" in html
    assert "<kbd>1</kbd>" not in html
