"""The README of an export: what it holds, who judged, how well they agree."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from labeling_ui.results.export import Export
from labeling_ui.results.formats import Format, lists_of

if TYPE_CHECKING:
    from rlhf.data.readers.containers import Container

_ORDER = (
    "rankings", "preferences", "ratings", "feedback", "demonstrations", "votes", "answers", "ties",
    "comparisons",
)  # fmt: skip

_MEANING = {
    "preferences": "which response is better. With n votes, skips left out, `margin` is |a - b| / n"
    " and `agreement` is the winner's votes / n",
    "ratings": "each response with the mean of its ratings, in all and by aspect",
    "feedback": "a response and what the majority of its thumbs says; even ones are left out",
    "demonstrations": "conversations that end in a response as a rater would have it",
    "ties": "judged comparisons that neither won, with the counts. Not for training",
    "votes": "every vote that counts, and skips; `a_side` is where response a was shown",
    "answers": "every answer that counts, and skips, with the response it is about",
    "comparisons": "what was asked, with the policy that wrote each response",
}

_OF_RATINGS = {
    "preferences": "of every two responses to a prompt the one with the higher mean, over the"
    " raters of both, or over all where nobody rated both. `margin` is the difference over the"
    " width of the scale, `agreement` the share of the raters of both who rated it higher",
}

_FOR_TRL = {
    "preferences": "TRL's preference type, conversational: `prompt`, `chosen`, `rejected`. Ties are"
    " left out. Without the `margin` of our records, which would change TRL's reward loss",
    "feedback": "TRL's unpaired type, conversational: `prompt`, `completion`, `label`. A response"
    " that only won or got more thumbs up is good, one that only lost or got more down is bad, any"
    " other is left out",
    "rankings": "`responses` from the best to the worst, by mean place over the raters, with their"
    " `ranks`, equal where they tie. TRL has no such type: train it on the preferences beside",
}

_LOAD = {
    "jsonl": "",
    "parquet": "",
    "datasets": 'Each is a folder: `datasets.load_from_disk("{name}")`.\n\n',
}

_ASKED = {
    "pairwise": "People compared two responses to a prompt",
    "ranking": "People ranked several responses to a prompt",
    "rating": "People rated responses by aspects, from 1 to 5",
    "thumbs": "People gave responses thumbs up or down",
    "rewrite": "People rewrote responses as they would have them",
}


def _agreement_rows(result: Export) -> str:
    """Rows of the card's table: every figure of agreement, with 95 % intervals."""
    from rlhf.evaluate.agreement import agreement

    found = agreement(result.independent, tasks=result.ranked)
    several = "pairs of responses" if result.kind == "ranking" else "tasks"
    if found.percent is None:
        share = result.status.agreement
        if share is None:
            return "| agreement | no task has two votes yet |"
        return f"| agreement | {share:.1%} of pairs of votes on the same task agree |"
    share = found.percent
    same = "two responses" if result.kind == "ranking" else "task"
    rows = [
        f"| agreement | {share.value:.1%} ({share.low:.1%} to {share.high:.1%}) of pairs of votes "
        f"on the same {same} agree, {share.n} {several} |"
    ]
    for name, figure in (
        (f"Fleiss' kappa, {found.fleiss_votes} votes each", found.fleiss),
        ("Krippendorff's alpha, nominal", found.alpha_nominal),
        ("Krippendorff's alpha, ordinal", found.alpha_ordinal),
    ):
        if figure is not None:
            value = f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"
            rows.append(f"| {name} | {value}, {figure.n} {several} |")
    return "\n".join(rows)


def dataset_card(
    result: Export,
    digests: Mapping[str, str],
    form: Format = "records",
    container: "Container" = "jsonl",
) -> str:
    """The text of the card; ``digests`` are the SHA-256 of the files beside it."""
    status = result.status
    judged = f"{result.judged} of them with {status.overlap} or more answers"
    drawn = ", each time in an order drawn at random" * (result.kind in ("pairwise", "ranking"))
    raters = "\n".join(f"| {r.name} | {r.votes} | {r.skips} |" for r in status.raters)
    # `datasets` cannot read an empty file, and the first of these is what it takes.
    lists = {name: rows for name, rows in lists_of(result, form).items() if rows}
    names = sorted(lists, key=_ORDER.index)
    files = {name: name if container == "datasets" else f"{name}.{container}" for name in names}
    rows = "\n".join(f"| {name} | {len(lists[name])} |" for name in names)
    meaning = _FOR_TRL
    if form == "records":
        meaning = _MEANING | (_OF_RATINGS if result.kind == "rating" else {})
    meanings = "\n".join(f"- `{files[name]}`: {meaning[name]}." for name in names)
    load = _LOAD[container].format(name=names[0] if names else "")
    hashes = "\n".join(f"| {name} | `{digest}` |" for name, digest in digests.items())
    return f"""{_front(files, container)}# {status.name}

{_ASKED[result.kind]}, blind{drawn}.

| | |
|---|---|
| tasks | {status.comparisons}, {judged} |
| answers | {status.votes}, and {status.skips} skips |
| raters | {len(status.raters)} |
{_agreement_rows(result)}
{rows}

{meanings}

{load}## Guidelines

{result.guidelines or "None were given."}

## Raters

| rater | votes | skips |
|---|---|---|
{raters}

## Files

| file | SHA-256 |
|---|---|
{hashes}
"""


def _front(files: Mapping[str, str], container: "Container") -> str:
    """What tells `datasets` which file is which; it does not look into folders of its own."""
    if container == "datasets":
        return ""
    configs = "\n".join(
        f"- config_name: {name}\n  data_files: {file}\n  default: {str(not index).lower()}"
        for index, (name, file) in enumerate(files.items())
    )
    return f"---\nconfigs:\n{configs}\n---\n"
