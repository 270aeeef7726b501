"""Every command and every line of Python in the README runs, in its order, with fewer steps."""

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from labeling_ui.__main__ import main as label
from labeling_ui.campaigns.answers import Answer
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.db.store import Store
from rlhf import cli
from rlhf.config import CONFIG_OF, load_config
from rlhf.records import Comparison, Preference, Record, Response, to_json
from rlhf.sandbox.staff import demonstrations, ideal
from rlhf.sandbox.world import prompts
from tests.labeling import PASSWORD, cheap_accounts

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.strip() for kind, text in BLOCKS if kind == "bash" for line in text.splitlines() if line
]
FEWER = {
    "sft": ["max_steps=2", "per_device_train_batch_size=4"],
    "reward": ["max_steps=2", "per_device_train_batch_size=4", "data.eval_fraction=0.3"],
    "dpo": ["max_steps=2", "per_device_train_batch_size=4"],
    "ppo": ["num_rollouts=1", "rollout_batch_size=16", "per_device_train_batch_size=4"],
    "compare": ["--max-new-tokens", "8"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory):
    """A clone after the demo, as far as the README needs one; the commands run in it."""
    home = tmp_path_factory.mktemp("clone")
    for name in ("configs", "data"):
        (home / name).symlink_to(ROOT / name)
    asked = prompts(0, 24)
    curt = [Response("No.", "sft"), Response("Ask somebody else, please.", "sft")]
    write(home / "runs/demo/data/demonstrations.jsonl", demonstrations(asked, 0))
    write(home / "runs/demo/data/prompts.jsonl", asked)
    write(home / "runs/demo/data/held-out-prompts.jsonl", prompts(1, 4, held_out=True))
    write(
        home / "runs/demo/data/comparisons.jsonl",
        [Preference(p, ideal(p), curt[i % 2].text) for i, p in enumerate(asked)],
    )
    write(
        home / "comparisons.jsonl",
        [Comparison(p, Response(ideal(p), "sft"), curt[i % 2]) for i, p in enumerate(asked)],
    )
    before = Path.cwd()
    os.chdir(home)
    yield home
    os.chdir(before)


def write(path: Path, records: Iterable[Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(to_json(record)) + "\n" for record in records))


def vote(database: Path) -> None:
    """Two raters prefer the longer response."""
    with closing(Store(database)) as store:
        campaigns = Campaigns(store)
        for name in ("ann", "bob"):
            rater = cheap_accounts(store).add(name, PASSWORD, "rater").id
            while (item := campaigns.next("parcels", rater).item) is not None:
                choice = "left" if len(item.responses[0]) > len(item.responses[1]) else "right"
                key = f"{name}-{item.assignment}"
                campaigns.submit("parcels", rater, Answer(item.assignment, choice, key))


def serve(arguments: list[str]) -> None:
    """The server says where it listens and stops when it is interrupted."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "labeling_ui", *arguments, "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline().startswith("http://127.0.0.1:")
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=60) == 0
        finally:
            server.kill()


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    program, name, *rest = shlex.split(command, comments=True)
    assert program == "rlhf"
    if name != "label":
        monkeypatch.setattr("sys.stdin", io.StringIO("Where is my parcel?\n/quit\n"))
        return cli.main([name, *rest, *FEWER.get(name, [])])
    if rest[0] == "serve":
        serve(rest)
        return 0
    if rest[0] == "export" and not Path("votes").exists():
        vote(Path("label.db"))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    return label([*rest, *(["--password-stdin"] if rest[0] == "add-user" else [])])


def test_every_command_runs_in_its_order(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert len(COMMANDS) >= 14
    for command in COMMANDS:
        assert run(command, monkeypatch) == 0, f"{command}: {capsys.readouterr().err}"
    assert (home / "runs/mine/compare/index.html").exists()
    assert (home / "runs/mine/by-people").exists()
    assert "runs/mine/ppo" in capsys.readouterr().out


@pytest.mark.usefixtures("home")
def test_what_a_sibling_prints_where_it_refuses_ppos_config_runs(
    capsys: pytest.CaptureFixture[str],
):
    runs = ["policy=runs/mine/sft", "reward=runs/mine/reward"]
    assert cli.main(["grpo", "configs/demo/ppo.yaml", *runs, *FEWER["ppo"]]) == 1
    [command] = re.findall("run `rlhf (.*)`", capsys.readouterr().err)
    assert cli.main(shlex.split(command)) == 0
    assert capsys.readouterr().out == "runs/demo/grpo\n"


@pytest.mark.usefixtures("home")
def test_the_python_session_runs(capsys: pytest.CaptureFixture[str]):
    [session] = [text for kind, text in BLOCKS if kind == "python"]
    session = session.replace("num_rollouts=2", "num_rollouts=1, report_to=[]")
    exec(session, {})
    assert "ppo [" in capsys.readouterr().out


def test_the_other_commands_are_those_of_the_makefile_and_the_project():
    lines = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
    makefile = (ROOT / "Makefile").read_text()
    for line in lines:
        for command in line.split("&&"):
            match shlex.split(command):
                case ["make", target]:
                    assert f"\n{target}: " in makefile
                case ["pip", "install", "-c", constraints, "-e", "."]:
                    assert (ROOT / constraints).exists()
                case ["accelerate", "launch", "--config_file", how, "-m", "rlhf", stage, config]:
                    assert (ROOT / how).exists()
                    load_config(CONFIG_OF[stage], ROOT / config)
                case other:
                    assert other in (
                        ["python3", "-m", "venv", ".venv"],
                        [".", ".venv/bin/activate"],
                        ["pip", "install", "-U", "pip"],
                    )


def test_the_readme_is_short_and_its_links_lead_somewhere():
    assert len(README.splitlines()) <= 200
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists()


def test_the_tree_names_what_is_there():
    [tree] = [text for _, text in BLOCKS if text.startswith("rlhf/\n")]
    for line in tree.splitlines():
        name = line.split()[0]
        assert (ROOT / ("rlhf" if line.startswith("  ") else ".") / name).exists(), name
