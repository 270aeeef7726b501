"""A finished reward run that scores responses."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from rlhf.chat import encode_prompt, encode_response
from rlhf.errors import RewardError
from rlhf.model.bases import Actor, Bases
from rlhf.model.heads import ScoreHead, load_head
from rlhf.model.scoring import scores
from rlhf.model.start import Start
from rlhf.records import Prompt
from rlhf.runs import open_run

_BATCH = 64


class Scorer:
    """A reward run that scores responses; see :func:`load_scorer`."""

    def __init__(self, actor: Actor, head: ScoreHead, name: str = "the reward run") -> None:
        self._actor, self._head, self._name = actor, head, name

    def score(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[str],
        on_progress: Callable[[int], object] | None = None,
    ) -> list[float]:
        """One raw score per response, each taken as finished by its end token."""
        tokenizer = self._actor.tokenizer
        return self.score_ids(
            [encode_prompt(tokenizer, prompt) for prompt in prompts],
            [encode_response(tokenizer, p, t) for p, t in zip(prompts, texts, strict=True)],
            on_progress,
        )

    def score_ids(
        self,
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        on_progress: Callable[[int], object] | None = None,
    ) -> list[float]:
        """One raw score per row of token ids, read at the last of them.

        Raises:
            RewardError: a score is no number, or infinite.
        """
        result = [0.0] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]) + len(responses[i]))
        for start in range(0, len(order), _BATCH):
            chunk = order[start : start + _BATCH]
            batch = self._actor.sequences(
                [prompts[i] for i in chunk], [responses[i] for i in chunk]
            )
            with self._actor.acting() as model:
                for i, score in zip(chunk, scores(model, self._head, batch).tolist(), strict=True):
                    result[i] = score
            if on_progress is not None:
                on_progress(len(chunk))
        for prompt, score in zip(prompts, result, strict=True):
            if not math.isfinite(score):
                text = self._actor.tokenizer.decode(list(prompt), skip_special_tokens=True)
                raise RewardError(
                    f"{self._name} scores a response to {text!r} as {score}; its adapter or head "
                    "is broken, or its base overflows in this dtype: train it again, or set "
                    "model.dtype: float32"
                )
        return result


def load_scorer(run: str | Path, bases: Bases | None = None) -> Scorer:
    """A finished reward run, on a base that is already in memory if there is one."""
    start = Start.of_run(run, "reward")
    actor = (bases or Bases()).actor(start)
    head = load_head(open_run(run, "reward").head, actor.model.device)
    return Scorer(actor, head, str(run))
