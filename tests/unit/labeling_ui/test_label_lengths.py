"""A text that is too long is told how many characters it may have."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from labeling_ui.campaigns.answers import Answer, Flag
from labeling_ui.campaigns.tasks import Settings
from labeling_ui.http.api_accounts import Join, Login, NewProgram, NewUser
from labeling_ui.http.api_arena import Ask, AskChosen
from labeling_ui.http.api_campaigns import NewCampaign
from labeling_ui.http.api_generation import NewDraft

LIMITS: list[tuple[Any, str, int]] = [
    (NewCampaign, "guidelines", 20_000),
    (NewDraft, "guidelines", 20_000),
    (NewDraft, "prompts", 8000),
    (Ask, "prompt", 8000),
    (AskChosen, "prompt", 8000),
    (Login, "name", 200),
    (Login, "password", 1000),
    (NewUser, "role", 20),
    (NewProgram, "password", 1000),
    (Join, "code", 200),
    (Answer, "text", 50_000),
    (Answer, "reason", 4000),
    (Flag, "kind", 80),
    (Flag, "note", 2000),
    (Settings, "aspects", 40),
]


def told(model: Any, field: str, text: str) -> list[str]:
    """What is said of that field; others are missing, which is said of them."""
    value = [text] if field in ("prompts", "aspects") else text
    try:
        TypeAdapter(model).validate_python({field: value})
    except ValidationError as error:
        return [one["msg"] for one in error.errors() if one["loc"][0] == field]
    return []


@pytest.mark.parametrize(("model", "field", "limit"), LIMITS)
def test_every_limit_on_a_text_counts_characters(model, field, limit):
    assert told(model, field, "x" * limit) == []
    assert told(model, field, "x" * (limit + 1)) == [
        f"String should have at most {limit} characters"
    ]
    [nul] = told(model, field, "x\0")
    assert "must not contain the NUL character" in nul
    [half] = told(model, field, "x\ud800")
    assert "unicode" in half
