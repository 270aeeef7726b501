"""PPO of ours and of TRL 1.12, in turn, on the same model, prompts, lengths and threads.

    python tests/benchmarks/ppo_vs_trl.py ANCHORS TRL112 WORK --pairs 5

ANCHORS holds `trl112_ppo.py` and `make_model.py`; TRL112 is where that version of TRL is installed
without its dependencies. Prints one JSON object: medians, the ratios pair by pair, and, from one
more run of each that is not timed as a whole, the FLOPs per sample and where the time goes.
"""

# nothing heavy is imported here: a child's peak memory counts from that of the process it came from
import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
SHAPE = ("384", "8", "1024", "8192")
"""Hidden, layers, feed-forward, vocabulary: 20 million parameters."""
SETTINGS = {
    "fixed": ["--prompt", "32", "--response", "48"],
    "varied": ["--prompt", "64", "--response", "96"],
}
OURS = ("adapter", "head")


def main() -> None:
    """Alternate, then compare."""
    given = _arguments()
    given.work.mkdir(parents=True, exist_ok=True)
    found = {name: _setting(given, name) for name in given.settings}
    json.dump({"benchmark": "ppo_vs_trl", "threads": given.threads, **found}, sys.stdout, indent=1)
    sys.stdout.write("\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("anchors", "trl112", "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--updates", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--micro", type=int, default=4, help="our micro-batch; the anchor's is 8")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    return parser.parse_args()


def _setting(given: argparse.Namespace, name: str) -> dict[str, Any]:
    model, runs = given.work / f"model-{name}", given.work / f"runs-{name}"
    if not model.exists():
        subprocess.run([sys.executable, given.anchors / "make_model.py", model, *SHAPE], check=True)
    ours = [str(HERE / "ppo_ours.py"), str(model), str(runs)]
    shape = [*SETTINGS[name], "--updates", str(given.updates), "--threads", str(given.threads)]
    if name == "varied":
        shape += ["--prompts", str(runs / "prompts.jsonl")]
    _run([*ours, *shape, "--prepare"], HERE.parents[1])
    programs = {"trl": ([str(given.anchors / "trl112_ppo.py"), str(model), *shape], given.trl112)}
    for value in OURS:
        flags = ["--value", value, "--micro", str(given.micro)]
        programs[value] = ([*ours, *shape, *flags], HERE.parents[1])
    seen: dict[str, list[dict[str, Any]]] = {program: [] for program in programs}
    for _ in range(given.pairs):
        for program, (command, path) in programs.items():
            seen[program].append(_run(command, path))
    profiles = {
        program: _run([str(HERE / "profiled.py"), *command], path)
        for program, (command, path) in programs.items()
    }
    speed = {p: [row["samples_per_s"] for row in rows] for p, rows in seen.items()}
    memory = {p: [row["rss_over_import_mb"] for row in rows] for p, rows in seen.items()}
    return {
        "samples_per_s": {p: median(values) for p, values in speed.items()},
        "memory_mb": {p: median(values) for p, values in memory.items()},
        "speed_over_trl": {p: _ratios(speed[p], speed["trl"]) for p in OURS},
        "memory_over_trl": {p: _ratios(memory[p], memory["trl"]) for p in OURS},
        "profiles": profiles,
        "runs": seen,
    }


def _ratios(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    pairs = [round(a / b, 3) for a, b in zip(ours, theirs, strict=True)]
    return {"median": median(pairs), "pairs": pairs}


def _run(command: list[str], path: Path) -> dict[str, Any]:
    threads = command[command.index("--threads") + 1]
    environment = os.environ | {"PYTHONPATH": str(path), "OMP_NUM_THREADS": threads}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
