"""What keeps the house in order: versions, constraints, dependencies, one set of commands."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import rlhf

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DECLARED = {
    Requirement(line).name: Requirement(line) for line in PROJECT["project"]["dependencies"]
}
HELD = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
NAME_OF = {
    "argon2": "argon2-cffi",
    "huggingface_hub": "huggingface-hub",
    "markdown_it": "markdown-it-py",
    "rouge_score": "rouge-score",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def test_the_changelog_starts_with_this_version():
    versions = re.findall(r"^## \[(\S+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == rlhf.__version__


def test_every_library_that_is_imported_is_declared():
    imported: set[str] = set()
    for path in (*(ROOT / "rlhf").rglob("*.py"), *(ROOT / "labeling_ui").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").split(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"rlhf", "labeling_ui"}
    assert "torch" in foreign
    assert {NAME_OF.get(name, name) for name in foreign} <= DECLARED.keys()


NEVER_EDITED = "migrations/versions"
"""What brought old databases up to date stays as it was written, long or not."""


def test_no_folder_holds_more_than_15_modules_and_no_module_350_lines():
    modules = [path for room in ("rlhf", "labeling_ui") for path in (ROOT / room).rglob("*.py")]
    per_folder = Counter(path.parent for path in modules)
    assert {str(folder): count for folder, count in per_folder.items() if count > 15} == {}
    lines = {str(path): path.read_text("utf-8").count("\n") for path in modules}
    long = [path for path, count in lines.items() if count >= 350 and NEVER_EDITED not in path]
    assert long == []


def test_what_is_declared_is_held_to_a_version_that_fits_and_is_the_one_tested():
    groups = PROJECT["dependency-groups"]
    used = [*DECLARED.values(), *map(Requirement, groups["test"])]
    for requirement in (*used, *map(Requirement, groups["lint"])):
        assert requirement.specifier.contains(HELD[requirement.name]), requirement
    for requirement in used:
        found = version(requirement.name).split("+")[0]
        assert found == HELD[requirement.name], requirement.name


def test_pre_commit_runs_what_ci_runs():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    local = {hook["entry"] for repo in config["repos"] for hook in repo["hooks"] if "entry" in hook}
    makefile = (ROOT / "Makefile").read_text()
    assert local == {"ruff check", "ruff format --check", "pyright"}
    for command in local:
        assert f"\t$(BIN)/{command}" in makefile
    ci = (ROOT / ".ci" / "run").read_text()
    assert "make check" in ci
    assert "make test" in ci
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize("target", ["demo", "test", "test-slow", "check"])
def test_every_make_target_installs_before_it_runs_and_only_once(target: str, tmp_path: Path):
    def plan() -> str:
        command = ["make", "--dry-run", "-C", str(ROOT), target, f"VENV={tmp_path}/venv"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    first = plan()
    assert f"python3 -m venv {tmp_path}/venv" in first
    assert "torch==" in first
    (tmp_path / "venv").mkdir()
    for stamp in (".installed", ".test", ".lint"):
        (tmp_path / "venv" / stamp).touch()
    assert "pip" not in plan()
