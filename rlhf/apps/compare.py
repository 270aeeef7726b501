"""Policies side by side: each answers the same prompts, and somebody judges."""

import json
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass
from tqdm.auto import tqdm

from rlhf.apps.judges import check_judge, load_judge
from rlhf.apps.people import Campaign, sign_in, wait_for
from rlhf.apps.standings import Judgement, Policy, by_scores, by_votes, draft, pairs, report
from rlhf.config import STRICT, Count, NonNegative, SourceConfig, to_dict
from rlhf.data.sources import read
from rlhf.errors import ConfigError, DataError, RunError
from rlhf.model.bases import Bases
from rlhf.model.engine.generate import Sampling
from rlhf.model.policies import Policies, load_policies
from rlhf.records import Prompt, to_json
from rlhf.report import Answer, Case, Report, case_from_json, case_to_json, comparison_page
from rlhf.runs import Run, RunFolder, is_run, new_run, open_run

PEOPLE = "people"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CompareOptions:
    """What is compared, on which prompts, and who judges."""

    policies: Annotated[list[str], Field(min_length=1)]
    """Run folders or bases."""
    prompts: str
    """A file, folder or hub name with prompts."""
    out: str
    """The folder to write."""
    judge: str
    """The folder of a reward run, ``module:function``, or ``people``."""
    reference: str | None = None
    """The policy that KL and gains are measured from; the first one if left out."""
    split: str | None = None
    limit: Count | None = None
    """Use the first so many prompts only."""
    num_samples: Count = 1
    """Responses of each policy to each prompt."""
    max_new_tokens: Count = 128
    temperature: NonNegative = 1.0
    seed: Annotated[int, Field(ge=0)] = 0
    server: str | None = None
    """Where people are asked: the address of a running labelling server."""
    user: str | None = None
    """An admin there."""
    campaign: str | None = None
    """The name that people see; `compare-` and the run's id if left out."""
    overlap: Count = 1
    """Raters per comparison."""
    guidelines: str = ""
    wait: bool = True
    """Return when people have judged everything; without, `collect` fetches the votes later."""


def run(options: CompareOptions) -> Path:
    """Compare policies; the finished folder, with ``index.html`` and the files behind it.

    Raises:
        RLHFError: an option, a run or the server is not right; nothing was sampled then.
    """
    paths = _paths(options)
    prompts = _prompts(options)
    if options.judge == PEOPLE:
        with sign_in(options.server, options.user):
            pass  # whoever is not let in should learn it before anything is sampled
    else:
        check_judge(options.judge)
    with new_run("compare", options, parents=_parents(options, paths)) as folder:
        bases = Bases()
        policies = load_policies(paths, bases)
        _record(folder, options, policies.names, paths)
        cases = _answers(policies, _fitting(policies, prompts, folder, options), folder, options)
        if options.judge != PEOPLE:
            cases = _scored(cases, options.judge, bases)
        write(folder, _assemble(folder.facts, to_dict(options), cases, by_scores(cases)))
    return collect(options.out, wait=options.wait) if options.judge == PEOPLE else Path(options.out)


def collect(out: str | Path, *, wait: bool = True) -> Path:
    """Put the comparisons of a run before people, if they are not yet, and take in their votes.

    Raises:
        RunError: ``out`` is not a compare run that people judge, or the server does not answer.
    """
    folder = open_run(out, "compare")
    if "campaign" not in folder.facts:
        raise RunError(f"{out}: people do not judge this comparison; there is nothing to collect")
    campaign = Campaign(**folder.facts["campaign"])
    policies = [Policy(**policy) for policy in folder.facts["policies"]]
    cases = read_cases(folder)
    asked = [c for c in pairs(cases, policies) if c.response_a.text != c.response_b.text]
    if not asked:
        raise RunError(f"{out}: all responses are the same; there is nothing to ask people")
    guidelines = folder.config["guidelines"]
    with sign_in(campaign.server, campaign.user) as client:
        client.add_campaign(campaign.name, asked, overlap=campaign.overlap, guidelines=guidelines)
        if wait:
            wait_for(client, campaign)
        votes = client.votes(campaign.name)
    judgements = by_votes(cases, policies, votes) if votes else []
    write(folder, _assemble(folder.facts, folder.config, cases, judgements))
    return folder.path


def write(folder: RunFolder, found: Report) -> None:
    """Write the page and the files behind it, each complete or not at all; the page comes last."""
    policies = [Policy(p.name, p.path, p.stage) for p in found.policies]
    _replace(folder.comparisons, _lines(map(to_json, pairs(found.cases, policies))))
    _replace(folder.responses, _lines(map(case_to_json, found.cases)))
    _replace(folder.results, json.dumps(found.summary(), indent=2, ensure_ascii=False) + "\n")
    _replace(folder.comparison, comparison_page(found))


def read_cases(folder: RunFolder) -> list[Case]:
    """Every prompt of a compare run with its responses."""
    lines = folder.responses.read_text(encoding="utf-8").split("\n")
    return [case_from_json(json.loads(line)) for line in lines if line]


def _paths(options: CompareOptions) -> list[str]:
    """The policies, the reference among them."""
    paths = list(dict.fromkeys(path.rstrip("/") for path in options.policies))
    if options.reference and options.reference.rstrip("/") not in paths:
        paths.insert(0, options.reference.rstrip("/"))
    if len(paths) < 2:
        raise ConfigError(f"{paths[0]} alone cannot be compared; name two runs or bases at least")
    return paths


def _prompts(options: CompareOptions) -> list[Prompt]:
    source = SourceConfig(path=options.prompts, split=options.split, limit=options.limit)
    return list({prompt.id: prompt for prompt in read(source, Prompt)}.values())


def _parents(options: CompareOptions, paths: Sequence[str]) -> dict[str, Path]:
    judge = {"judge": Path(options.judge)} if is_run(options.judge) else {}
    return {Path(path).name: Path(path) for path in paths if is_run(path)} | judge


def _record(
    folder: Run, options: CompareOptions, names: Sequence[str], paths: Sequence[str]
) -> None:
    """What a later :func:`collect` needs to know."""
    reference = options.reference.rstrip("/") if options.reference else paths[0]
    found = [
        Policy(name, path, open_run(path).stage if is_run(path) else "base")
        for name, path in zip(names, paths, strict=True)
    ]
    folder.record(
        policies=[asdict(policy) for policy in found],
        reference=names[paths.index(reference)],
        notes=list(_caveats(options, paths)),
    )
    if options.judge == PEOPLE:
        name = options.campaign or f"compare-{folder.facts['id']}"
        campaign = Campaign(str(options.server), str(options.user), name, options.overlap)
        folder.record(campaign=asdict(campaign))


def _caveats(options: CompareOptions, paths: Sequence[str]) -> Iterable[str]:
    if not is_run(options.judge):
        return
    judge = open_run(options.judge).facts["id"]
    for path in filter(is_run, paths):
        parents = open_run(path).facts.get("parents", {}).values()
        if judge in {parent["id"] for parent in parents}:
            yield (
                f"{Path(path).name} was trained against this judge, which therefore cannot see "
                "where it exploits the judge's mistakes."
            )


def _fitting(
    policies: Policies, prompts: Sequence[Prompt], folder: Run, options: CompareOptions
) -> list[Prompt]:
    """The prompts that leave every policy room to answer."""
    needed = options.max_new_tokens
    found = [p for p in prompts if all(policies.room(n, p) >= needed for n in policies.names)]
    if not found:
        raise DataError(
            f"{options.prompts}: no prompt leaves room for {needed} tokens in the models' "
            "context; lower --max-new-tokens or give shorter prompts"
        )
    if left_out := len(prompts) - len(found):
        note = f"{left_out} of {len(prompts)} prompts are too long for the models and left out."
        folder.record(notes=[*folder.facts["notes"], note])
    return found


def _answers(
    policies: Policies, prompts: Sequence[Prompt], folder: Run, options: CompareOptions
) -> list[Case]:
    rows = [prompt for prompt in prompts for _ in range(options.num_samples)]
    sampling = Sampling(options.max_new_tokens, options.temperature, options.seed)
    reference = folder.facts["reference"]
    columns: list[list[Answer]] = []
    for name in policies.names:
        with _bar(f"{name} answers", len(rows)) as tell:
            ids = policies.sample(name, rows, sampling, tell)
        kl: Sequence[float | None] = [None] * len(rows)
        if name != reference and policies.same_tokens(name, reference):
            with _bar(f"{name} beside {reference}", len(rows)) as tell:
                kl = policies.kl(name, reference, rows, ids, tell)
        columns.append(
            [
                Answer(text, len(drawn), finished, kl=nats)
                for text, drawn, finished, nats in zip(
                    policies.decode(name, ids),
                    ids,
                    policies.finished(name, ids),
                    kl,
                    strict=True,
                )
            ]
        )
    answers = zip(*columns, strict=True)
    return [Case(prompt, given) for prompt, given in zip(rows, answers, strict=True)]


def _scored(cases: Sequence[Case], judge: str, bases: Bases) -> list[Case]:
    """The cases with a score for each answer, taken as finished where it was cut off."""
    flat = [(case.prompt, answer.text) for case in cases for answer in case.answers]
    with _bar("scores", len(flat)) as tell:
        prompts, texts = zip(*flat, strict=True)
        scores = iter(load_judge(judge, bases).score(prompts, texts, tell))
    return [
        replace(case, answers=tuple(replace(a, score=next(scores)) for a in case.answers))
        for case in cases
    ]


def _assemble(
    facts: Mapping[str, Any],
    settings: Mapping[str, Any],
    cases: Sequence[Case],
    judgements: Sequence[Judgement],
) -> Report:
    told = ("id", "started", "command", "device", "git_revision", "parents", "versions")
    policies = [Policy(**policy) for policy in facts["policies"]]
    judge = "the reward run " * is_run(settings["judge"]) + str(settings["judge"])
    about = {
        "settings": settings,
        "provenance": {key: facts[key] for key in told if key in facts},
        "notes": tuple(facts["notes"]),
    }
    return report(draft(policies, cases, facts["reference"], judge, about), judgements)


@contextmanager
def _bar(name: str, total: int) -> Generator[Callable[[int], object]]:
    """A progress bar on stderr, on a terminal only."""
    with tqdm(desc=name, total=total, disable=None, dynamic_ncols=True) as bar:
        yield bar.update


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
