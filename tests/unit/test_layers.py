"""Imports go one way: a module imports only from rows above its own."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# From the top down. A name stands for the module or the package with everything in it; the longest
# name that fits decides.
ROWS = [
    {"rlhf"},
    {"rlhf.errors", "rlhf.processes", "rlhf.shipped"},
    {"rlhf.records"},
    {"rlhf.config"},
    {"rlhf.provenance"},
    {"rlhf.runs", "rlhf.ppo.objectives"},
    {"rlhf.chat"},
    {"rlhf.data", "rlhf.model", "rlhf.ppo.arguments"},
    {"rlhf.evaluate", "rlhf.sandbox", "rlhf.report", "rlhf.memory", "rlhf.label_client"},
    {"rlhf.training"},
    {"rlhf.rollouts"},
    {"rlhf.ppo"},
    {"rlhf.stages"},
    {"rlhf.apps"},
    {"rlhf.cli"},
    {"rlhf.__main__"},
]
UP_TO_MODEL = ROWS[: 1 + next(i for i, row in enumerate(ROWS) if "rlhf.model" in row)]
LABELING_MAY = {name for row in UP_TO_MODEL for name in row} | {"rlhf.evaluate", "rlhf.report"}
WITHOUT_TORCH = {"rlhf", "rlhf.errors", "rlhf.records", "rlhf.config", "rlhf.runs", "rlhf.report"}

# The same for the labelling app. What pages ask of a request (is it signed in?) is beside accounts,
# so that what answers requests stands above them.
LABELING_ROWS = [
    {"labeling_ui"},
    {"labeling_ui.locales", "labeling_ui.text", "labeling_ui.db"},
    {"labeling_ui.accounts"},
    {"labeling_ui.campaigns"},
    {"labeling_ui.results"},
    {"labeling_ui.arena", "labeling_ui.maintenance"},
    {"labeling_ui.pages"},
    {"labeling_ui.http"},
    {"labeling_ui.app", "labeling_ui.options"},
    {"labeling_ui.__main__"},
]

Import = tuple[str, bool]
"""What is imported, and whether it is imported when the module is."""


def modules(package: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


OURS = modules("rlhf") | modules("labeling_ui")


def imports(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        or (isinstance(function, ast.If) and ast.unparse(function.test) == "TYPE_CHECKING")
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        at_once = id(node) not in inside
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the whole name"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in OURS else node.module), at_once


IMPORTS = {module: tuple(imports(path)) for module, path in OURS.items()}


def row_of(module: str) -> tuple[int, str]:
    """The row of a module, and the name in it that stands for the module."""
    rows = LABELING_ROWS if module.split(".")[0] == "labeling_ui" else ROWS
    fits = [
        (len(name), number, name)
        for number, row in enumerate(rows)
        for name in row
        if module == name or ("." in name and module.startswith(f"{name}."))
    ]
    assert fits, f"{module} is in no row; give it one"
    _, number, name = max(fits)
    return number, name


def package_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def wrong(module: str, imported: str) -> bool:
    """Whether ``module`` may not import ``imported``."""
    home, of = module.split(".")[0], imported.split(".")[0]
    if home == "rlhf" and of == "labeling_ui":
        return True
    if of != home or package_of(module) == package_of(imported) != home:
        return False
    return row_of(imported)[0] >= row_of(module)[0]


def test_the_rows_are_told_apart():
    assert wrong("rlhf.records", "rlhf.config")
    assert wrong("rlhf.data.prepare", "rlhf.model.load"), "one row, two packages"
    assert wrong("rlhf.runs", "labeling_ui.db.store")
    assert wrong("labeling_ui.pages.admin", "labeling_ui.http.auth")
    assert wrong("labeling_ui.arena.battles", "labeling_ui.maintenance.backup")
    assert not wrong("labeling_ui.http.auth", "labeling_ui.accounts.users")
    assert not wrong("rlhf.model.start", "rlhf.runs")
    assert not wrong("rlhf.model.start", "rlhf.model.load")
    assert not wrong("rlhf.model.start", "torch")


@pytest.mark.parametrize("module", [m for m in OURS if "." in m])
def test_a_module_imports_only_from_rows_above_its_own(module: str):
    assert [name for name, _ in IMPORTS[module] if wrong(module, name)] == []


def test_no_module_imports_itself_in_a_circle():
    graph = {
        module: {name for name, _ in found if name in OURS and name != "rlhf"}
        for module, found in IMPORTS.items()
        if module != "rlhf"
    }
    TopologicalSorter(graph).prepare()  # raises where there is one


@pytest.mark.parametrize("module", modules("labeling_ui"))
def test_the_labelling_app_starts_without_torch_and_sees_no_stage(module: str):
    for name, at_once in IMPORTS[module]:
        if name.split(".")[0] == "rlhf":
            assert row_of(name)[1] in LABELING_MAY
            assert not at_once or row_of(name)[1] in WITHOUT_TORCH
        assert not at_once or name.split(".")[0] not in ("torch", "transformers", "trl", "peft")


ONLY_IN = {
    "bitsandbytes": r"rlhf\.model\.",
    "gradio": r"labeling_ui\.(pages|app)",
    # trainers, and the kernel that never holds all logits
    "trl": r"rlhf\.((stages|training|rollouts|ppo)\.|model\.scoring$)",
    "peft": r"rlhf\.(model|stages|training|rollouts|ppo)\.",
    "sqlalchemy": r"labeling_ui\.(db|accounts|campaigns|arena|results|maintenance)\.",
}


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_used_in_its_own_room_only(library: str):
    users = [
        module
        for module, found in IMPORTS.items()
        if any(name.split(".")[0] == library for name, _ in found)
    ]
    assert users
    assert [user for user in users if not re.match(ONLY_IN[library], user)] == []


def test_only_the_loader_configures_quantisation():
    users = [m for m, path in OURS.items() if "BitsAndBytesConfig(" in path.read_text()]
    assert users == ["rlhf.model.load"]


NOT_SHIPPED = re.compile(r"\.\./shared|/work/|shared/(data|models)")


def test_nothing_that_is_shipped_knows_of_what_is_not():
    shipped = [
        path
        for place in ("rlhf", "labeling_ui", "configs", "data", "README.md", "Makefile")
        for path in ([ROOT / place] if (ROOT / place).is_file() else (ROOT / place).rglob("*"))
        if path.suffix in {".py", ".yaml", ".md", ".js", ".css", ".json", ".toml", ""}
        and path.is_file()
    ]
    assert len(shipped) > 50
    assert [path for path in shipped if NOT_SHIPPED.search(path.read_text("utf-8"))] == []
