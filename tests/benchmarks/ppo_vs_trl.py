"""PPO of ours and of TRL 1.12, in turn, on the same model, prompts, lengths and threads.

    python tests/benchmarks/ppo_vs_trl.py ANCHORS TRL112 WORK --pairs 5

ANCHORS holds `trl112_ppo.py` and `make_model.py`; TRL112 is where that version of TRL is installed
without its dependencies. Prints one JSON object: medians, and the ratios pair by pair.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
SHAPE = ("384", "8", "1024", "8192")
"""Hidden, layers, feed-forward, vocabulary: 20 million parameters."""
SETTINGS = {
    "fixed": ["--prompt", "32", "--response", "48"],
    "varied": ["--prompt", "64", "--response", "96"],
}
OURS = ("adapter", "head")
_MEAN_RESPONSE = 38
_EOS = 1


def main() -> None:
    """Alternate, then compare."""
    given = _arguments()
    found = {
        name: _setting(given, name, flags)
        for name, flags in SETTINGS.items()
        if name in given.settings
    }
    json.dump({"benchmark": "ppo_vs_trl", "threads": given.threads, **found}, sys.stdout, indent=1)
    sys.stdout.write("\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("anchors", "trl112", "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--updates", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    return parser.parse_args()


def _setting(given: argparse.Namespace, name: str, flags: list[str]) -> dict[str, Any]:
    model = given.work / f"model-{name}"
    if not model.exists():
        maker = given.anchors / "make_model.py"
        subprocess.run([sys.executable, maker, model, *SHAPE], check=True)
        if name == "varied":
            _teach_to_end(model)
    flags = [*flags, "--updates", str(given.updates), "--threads", str(given.threads)]
    if name == "varied":
        flags += ["--prompts", str(_prompts(given.work / "prompts.jsonl"))]
    theirs = [str(given.anchors / "trl112_ppo.py"), str(model)]
    ours = [str(HERE / "ppo_ours.py"), str(model), str(given.work / f"runs-{name}")]
    programs = {"trl": (theirs, given.trl112)} | {
        value: ([*ours, "--value", value], HERE.parents[1]) for value in OURS
    }
    seen: dict[str, list[dict[str, Any]]] = {program: [] for program in programs}
    for _ in range(given.pairs):
        for program, (command, path) in programs.items():
            seen[program].append(_run([*command, *flags], path))
    speed = {p: [row["samples_per_s"] for row in rows] for p, rows in seen.items()}
    memory = {p: [row["rss_over_import_mb"] for row in rows] for p, rows in seen.items()}
    return {
        "samples_per_s": {p: median(values) for p, values in speed.items()},
        "memory_mb": {p: median(values) for p, values in memory.items()},
        "speed_over_trl": {p: _ratios(speed[p], speed["trl"]) for p in OURS},
        "memory_over_trl": {p: _ratios(memory[p], memory["trl"]) for p in OURS},
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


def _teach_to_end(folder: Path) -> None:
    """Train a model to draw words at random and to end after 38 of them on average."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(120):
        ids = torch.randint(4, model.config.vocab_size, (8, 64))
        ids[torch.rand(ids.shape) < 1 / _MEAN_RESPONSE] = _EOS
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)


def _prompts(path: Path) -> Path:
    """Prompts of 16 to 64 words."""
    draw = random.Random(0)
    rows = [
        {"prompt": " ".join(f"w{draw.randrange(8000)}" for _ in range(draw.randint(16, 64)))}
        for _ in range(256)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


if __name__ == "__main__":
    main()
