"""What is installed without a clone: built as pip builds it, and run from an empty folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree."""
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(out),
    ]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, check=False)
    if "No matching distribution found for hatchling" in done.stderr:
        pytest.skip("no package index is reached, and the wheel is built with hatchling")
    assert done.returncode == 0, done.stderr
    [built] = out.glob("*.whl")
    return built


def test_a_wheel_is_small_and_holds_what_the_demo_reads(wheel: Path):
    assert wheel.stat().st_size < 6 * 2**20
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for folder in ("configs/demo", "data/demo-base"):
        here = {str(p.relative_to(ROOT)) for p in (ROOT / folder).iterdir()}
        inside = {n.removeprefix("rlhf/shipped_files/") for n in names if f"_files/{folder}/" in n}
        assert inside == here
    assert not [name for name in names if name.startswith(("tests/", "rlhf/shipped_files/tests"))]


def test_an_installed_demo_finds_its_files(wheel: Path, tmp_path: Path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "from rlhf.apps import demo\n"
        "from rlhf.config import CONFIG_OF, load_config\n"
        "print(load_config(CONFIG_OF['ppo'], demo.CONFIGS / 'ppo.yaml').out)\n"
        "print(demo.DemoOptions().base / 'model.safetensors')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    out, base = done.stdout.splitlines()
    assert out == "runs/demo/ppo"
    assert Path(base).is_relative_to(tmp_path)
    assert Path(base).is_file()
