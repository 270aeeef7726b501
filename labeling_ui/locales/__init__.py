"""The words of the pages in several languages, one JSON file each, and which a browser gets."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

COOKIE = "rlhf_label_language"
"""Where a browser keeps the language that its user chose; pages write it, it is no secret."""

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Words:
    """One language."""

    language: str
    name: str
    """The language in its own words."""
    direction: str
    """``ltr`` or ``rtl``."""
    group: str
    """What stands between the thousands of a number."""
    texts: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """The text called ``key``, filled in."""
        return self.texts[key].format(**values)

    def count(self, number: int) -> str:
        """A whole number as this language writes it."""
        return f"{number:,}".replace(",", self.group)

    def of(self, text: str) -> str:
        """A text in this language, where it is a sentence that has others."""
        return text.within(self) if isinstance(text, Sentence) else text

    def told(self, error: Exception) -> str:
        """What an error says, in this language where that is known."""
        return self.of(error.args[0] if error.args else str(error))

    def html(self, key: str) -> str:
        """The text in an element that takes on another language in the browser."""
        return f'<span data-t="{key}">{escape(self(key))}</span>'


class Sentence(str):
    """A sentence in English that can be said in the other languages too."""

    __slots__ = ("_key", "_values")

    def __new__(cls, key: str, **values: object) -> "Sentence":
        """The text called ``key``, filled in."""
        said = super().__new__(cls, languages()["en"](key, **values))
        said._key, said._values = key, values
        return said

    def within(self, words: Words) -> str:
        """The same in another language."""
        return words(self._key, **self._values)


@cache
def languages() -> Mapping[str, Words]:
    """Every language there is, English first."""
    found = {path.stem: _read(path) for path in sorted(_HERE.glob("*.json"))}
    return {"en": found["en"], **found}


def _read(path: Path) -> Words:
    texts = json.loads(path.read_text(encoding="utf-8"))
    name, direction, group = (texts.pop(key) for key in ("_name", "_direction", "_group"))
    return Words(path.stem, name, direction, group, texts)


def words_of(request: Any) -> Words:  # noqa: ANN401 - FastAPI's or Gradio's
    """The language of whoever sent a request."""
    return words_for(request.cookies, request.headers.get("accept-language"))


def words_for(cookies: Mapping[str, str], accept_language: str | None) -> Words:
    """What somebody chose, else what the browser prefers, else English."""
    known = languages()
    wanted = [cookies.get(COOKIE, ""), *_by_preference(accept_language or "")]
    return next((known[name] for name in wanted if name in known), known["en"])


def _by_preference(header: str) -> list[str]:
    """The languages of an Accept-Language header, most wanted first, without their regions."""
    wanted: list[tuple[float, str]] = []
    for part in header.split(",")[:20]:
        found = re.fullmatch(
            r"\s*([a-zA-Z]{2,3})(?:-[\w-]*)?\s*(?:;\s*q=([01](?:\.\d*)?))?\s*", part
        )
        if found:
            wanted.append((-float(found[2] or 1), found[1].lower()))
    return [name for weight, name in sorted(wanted, key=lambda pair: pair[0]) if weight]
