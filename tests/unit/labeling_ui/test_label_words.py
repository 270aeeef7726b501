import json
import re
import string
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import labeling_ui
from labeling_ui.campaigns.answers import Choice
from labeling_ui.campaigns.service import FLAGS
from labeling_ui.locales import COOKIE, Sentence, languages, words_for
from labeling_ui.pages.figures import SORTS
from labeling_ui.results.cases import SHOWS
from rlhf.evaluate.leaderboard import NoteKind

ROOT = Path(labeling_ui.__file__).parent
ENGLISH = languages()["en"].texts


def names_in(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)


def asked_for() -> set[str]:
    """Every key that a page, its script or its layout names."""
    asked: set[str] = set()
    for path in (*ROOT.rglob("*.py"), *ROOT.rglob("*.js")):
        source = path.read_text(encoding="utf-8")
        named = r'\b(?:say|words|html|Sentence)\(\s*(?:rest \? )?["\'](\w*[a-z0-9])["\']'
        asked |= set(re.findall(named, source))
        asked |= set(re.findall(r'(?:data-t(?:-[a-z-]+)?=|_label\()["\'](\w+)["\']', source))
    return asked


@pytest.mark.parametrize(
    ("language", "written"), [("en", "1,234"), ("de", "1\u202f234"), ("ar", "1,234")]
)
def test_thousands_stand_apart_as_each_language_has_it(language, written):
    assert languages()[language].count(1234) == written


@pytest.mark.parametrize("language", languages())
def test_no_language_lacks_a_text_or_a_place_for_a_value(language):
    texts = languages()[language].texts
    assert texts.keys() == ENGLISH.keys()
    for key, text in texts.items():
        assert text.strip()
        assert not set(text) & set('<>&"'), "texts go into pages as they are"
        assert names_in(text) == names_in(ENGLISH[key]), key


def test_every_text_that_a_page_asks_for_exists():
    asked = asked_for()
    assert len(asked) > 40
    assert asked <= ENGLISH.keys(), asked - ENGLISH.keys()


def test_every_text_that_exists_is_asked_for_somewhere():
    sources = "".join(
        path.read_text(encoding="utf-8")
        for path in (*ROOT.rglob("*.py"), *ROOT.rglob("*.js"), *ROOT.glob("*.json"))
    )
    # what is named by its parts
    made = {"rate", "compare", "admin", "user", "assistant", "system", "tool"}
    made |= {f"help_{a}" for a in ("reason", "guidelines", "exact", "flag", "history", "help")}
    made |= {f"flag_{kind}" for kind in FLAGS}
    made |= {f"said_{choice}" for choice in get_args(Choice)}
    made |= {f"show_{show}" for show in SHOWS} | {f"sort_{sort}" for sort in SORTS}
    made |= {f"note_{kind}" for kind in get_args(NoteKind)}
    assert made <= ENGLISH.keys()
    unused = {k for k in ENGLISH.keys() - made if not re.search(rf"[\"']{k}[\"']", sources)}
    assert unused == set()


def test_no_file_has_the_same_key_twice():
    for path in (ROOT / "locales").glob("*.json"):
        pairs = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=list)
        assert len(pairs) == len(dict(pairs))


def test_there_are_three_languages_and_one_runs_from_right_to_left():
    assert {code: one.direction for code, one in languages().items()} == {
        "en": "ltr",
        "de": "ltr",
        "ar": "rtl",
    }
    assert next(iter(languages())) == "en"


@pytest.mark.parametrize(
    ("chosen", "header", "language"),
    [
        (None, None, "en"),
        (None, "de-CH,de;q=0.9,en;q=0.8", "de"),
        (None, "fr-FR,fr;q=0.9,ar;q=0.5,en;q=0.2", "ar"),
        (None, "en;q=0.3,de;q=0.7", "de"),
        (None, "de;q=0,en;q=0.1", "en"),
        (None, "fr,it", "en"),
        (None, "*", "en"),
        ("ar", "de", "ar"),
        ("xx", "de", "de"),
        ("../en", "de", "de"),
        ("", "", "en"),
    ],
)
def test_a_choice_counts_more_than_the_browser_and_english_is_the_last_resort(
    chosen, header, language
):
    cookies = {} if chosen is None else {COOKIE: chosen}
    assert words_for(cookies, header).language == language


@given(st.text(max_size=200))
def test_any_header_gives_some_language(header):
    assert words_for({}, header).language in languages()


def test_a_refusal_is_english_and_can_be_said_in_every_language():
    said = Sentence("refused_password", least=8, most=9)
    assert said == "a password has 8 to 9 characters"
    assert said.within(languages()["de"]) == "ein Passwort hat 8 bis 9 Zeichen"
    assert {said.within(words) for words in languages().values()} > {said}
