"""Everything a user can get wrong, as one small tree of exceptions.

``rlhf.cli`` prints an :class:`RLHFError` as one line and exits 1. ``assert`` is for what only we
can break; every other exception propagates with its traceback.
"""

from pydantic import ValidationError


class RLHFError(Exception):
    """Something that the user can put right; the message names the place and the remedy."""


class ConfigError(RLHFError):
    """A configuration key or value is not acceptable."""


class DataError(RLHFError):
    """A file of records cannot be used as it is."""


class RenderError(DataError):
    """A conversation that the base's chat template cannot write as it is."""


class RunError(RLHFError):
    """A run folder is missing, unfinished, of the wrong kind, or cannot be written."""


class ModelError(RLHFError):
    """A base model, tokenizer or adapter is missing or does not fit."""


class RewardError(RLHFError):
    """A reward gives what nothing can be learnt from."""


def reason(error: Exception) -> str:
    """What is wrong, on one line; of pydantic's list only the first, with the key it is about."""
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        at, text = problem["loc"], problem["msg"].removeprefix("Value error, ")
        named = any(isinstance(part, str) for part in at)  # else it is the place of an argument
        return f"`{'.'.join(map(str, at))}`: {text}" if named else text
    return " ".join(str(error).split())
