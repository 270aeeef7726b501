"""Records as rows of text in TRL's conversational formats, for trainers other than ours.

TRL knows paired preferences (``prompt``, ``chosen``, ``rejected``; DPO and reward models) and
unpaired ones (``prompt``, ``completion``, ``label``; KTO). It has no ranked type: a ranking is a
row of ours, and the pairs that it amounts to go beside it.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from rlhf.records import Feedback, Message, Preference, Prompt, Response

Row = dict[str, Any]


def paired(preference: Preference) -> Row:
    """A preference for TRL's DPO and reward trainers.

    A column called ``margin`` would change the reward trainer's loss without a word, so the margin
    is left to our own records.
    """
    return {
        "prompt": _turns(preference.prompt.messages),
        "chosen": _reply(preference.chosen),
        "rejected": _reply(preference.rejected),
        "agreement": preference.agreement,
        "num_votes": preference.num_votes,
        **_named(preference.provenance, "comparison", "chosen_policy", "rejected_policy"),
    }


def unpaired(feedback: Feedback) -> Row:
    """A response and whether it is good, for TRL's KTO trainer."""
    notes = feedback.provenance
    return {
        "prompt": _turns(feedback.prompt.messages),
        "completion": _reply(feedback.response),
        "label": feedback.good,
        **_named(notes, "agreement", "num_votes", "policy"),
    }


def ranked(prompt: Prompt, responses: Sequence[Response], ranks: Sequence[int]) -> Row:
    """Responses from the best to the worst; equal ranks are ties."""
    return {
        "prompt": _turns(prompt.messages),
        "responses": [response.text for response in responses],
        "ranks": list(ranks),
        "policies": [response.policy for response in responses],
    }


def apart(preferences: Iterable[Preference]) -> list[Feedback]:
    """Each response once: good if it only won, bad if it only lost; others are neither."""
    verdicts: defaultdict[tuple[str, str], set[bool]] = defaultdict(set)
    found: dict[tuple[str, str], Feedback] = {}
    for one in preferences:
        for text, good in ((one.chosen, True), (one.rejected, False)):
            key = (one.prompt.id, text)
            policy = one.provenance.get("chosen_policy" if good else "rejected_policy", "")
            verdicts[key].add(good)
            found.setdefault(key, Feedback(one.prompt, text, good, {"policy": policy}))
    return [feedback for key, feedback in found.items() if len(verdicts[key]) == 1]


def _turns(messages: Sequence[Message]) -> list[Row]:
    return [message.turn for message in messages]


def _reply(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _named(notes: Any, *names: str) -> Row:  # noqa: ANN401 - free-form by design
    """So many columns in every row, whatever its notes hold."""
    return {name: notes.get(name) for name in names}
