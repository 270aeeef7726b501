"""An export as lists of rows: our own records, or what TRL's trainers take."""

from typing import Any, Literal, get_args

from labeling_ui.results.export import Export, Ranking
from rlhf.errors import DataError

Format = Literal["records", "trl-paired", "trl-unpaired", "trl-ranked"]
FORMATS: tuple[Format, ...] = get_args(Format)

Lists = dict[str, list[dict[str, Any]]]


def lists_of(result: Export, form: Format = "records") -> Lists:
    """The lists of an export, each entry one JSON object, the one to train on first.

    Raises:
        DataError: if nothing in the campaign can take this form.
    """
    if form == "records":
        return result.to_json()
    lists = _FORMS[form](result)
    main = next(iter(lists))
    if not lists[main]:
        held = ", ".join(f"{len(rows)} {name}" for name, rows in result.to_json().items() if rows)
        raise DataError(
            f"campaign {result.status.name!r} has no {main} to write as {form} "
            f"(it has {held or 'no votes yet'}); choose another format"
        )
    return lists


def _paired(result: Export) -> Lists:
    from rlhf.data.trl_rows import paired

    return {"preferences": [paired(one) for one in result.preferences]}


def _unpaired(result: Export) -> Lists:
    from rlhf.data.trl_rows import apart, unpaired

    found = result.feedback or apart(result.preferences)
    return {"feedback": [unpaired(one) for one in found]}


def _ranked(result: Export) -> Lists:
    return {"rankings": [_ranking(one) for one in result.rankings], **_paired(result)}


def _ranking(one: Ranking) -> dict[str, Any]:
    from rlhf.data.trl_rows import ranked

    return {**ranked(one.prompt, one.responses, one.ranks), "num_votes": one.num_votes}


_FORMS = {"trl-paired": _paired, "trl-unpaired": _unpaired, "trl-ranked": _ranked}
