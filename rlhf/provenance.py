"""What a run was made with: versions, commit, device, memory; and the model card that says it."""

import re
import resource
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rlhf import __version__

LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "accelerate")

_SPEED = re.compile(r"^(step|epoch|total_flos|grad_norm)$|seconds|_runtime$|_per_second$|_tokens$")
_MADE_BY = {
    "pretrain": "A base model, trained on text.",
    "sft": "A policy, fine-tuned on demonstrations.",
    "reward": "A reward model: it scores a response, and was fitted to preferences.",
    "dpo": "A policy, aligned with preferences by direct preference optimization.",
    "kto": "A policy, aligned with good and bad responses by Kahneman-Tversky optimization.",
    "ppo": "A policy, aligned with a reward model by proximal policy optimization.",
    "rloo": "A policy, aligned with a reward model by REINFORCE leave-one-out.",
    "grpo": "A policy, aligned with a reward model by group relative policy optimization.",
    "online-dpo": "A policy, aligned with a reward model by online direct preference optimization.",
}


def at_start(stage: str, seed: object) -> dict[str, Any]:
    """What is known of a run when it starts."""
    return {
        "stage": stage,
        "status": "running",
        "id": secrets.token_hex(6),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "seed": seed,
        "versions": versions(),
        "git_revision": git_revision(),
    }


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries that decide a result."""
    found = {"rlhf": __version__, "python": sys.version.split()[0]}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "missing"
    return found


def git_revision() -> str | None:
    """The commit of the working directory, marked where files differ from it; None outside git."""
    revision = _git("rev-parse", "HEAD")
    if revision is None:
        return None
    return revision + ("+changed" if _git("status", "--porcelain", "-uno") else "")


def device() -> str:
    """The name of the GPU that torch uses, or cpu."""
    cuda = _cuda()
    return "cpu" if cuda is None else str(cuda.get_device_name())


def reset_peak_memory() -> None:
    """Count the peak from here on: stages may share a process. Without Linux, since its start."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if (cuda := _cuda()) is not None:
        cuda.reset_peak_memory_stats()


def peak_memory() -> dict[str, int]:
    """The most memory used, in MiB: of the process, and of the GPU where there is one."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = {"ram": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit}
    if (cuda := _cuda()) is not None:
        peak["gpu"] = int(cuda.max_memory_allocated()) // 2**20
    return peak


def memory(facts: Mapping[str, Any]) -> str:
    """The peak memory that a run recorded, in words."""
    peak = facts.get("peak_memory_mb", {})
    return ", ".join(f"{size} MiB {kind}" for kind, size in peak.items())


def outcome(metrics: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The last value of everything that was measured, but for what only says how fast."""
    last: dict[str, Any] = {}
    for line in metrics:
        last |= line
    return {k: v for k, v in last.items() if v is not None and not _SPEED.search(k)}


def card(name: str, facts: Mapping[str, Any], metrics: Iterable[Mapping[str, Any]]) -> str:
    """The model card of a run, as Markdown with the hub's front matter."""
    base = facts.get("base") or {}
    measured = outcome(metrics)
    made_with = {k: facts.get(k) for k in ("command", "seed", "device", "wall_seconds")}
    made_with |= {"memory": memory(facts), "git": facts.get("git_revision")}
    sections = {
        "Base": _bullets(base),
        "Made from": _bullets({k: v["path"] for k, v in facts.get("parents", {}).items()}),
        "Data": _bullets(_digests(facts.get("data") or {})),
        "Last measurements": _bullets(measured),
        "Made with": _bullets(made_with | dict(facts.get("versions", {}))),
        "Licence": (
            "This card grants none. The weights derive from the base and the data named above; "
            "their licences and terms apply."
        ),
    }
    front = ["---", *([f"base_model: {base['path']}"] if "path" in base else [])]
    front += ["tags:", "- rlhf", f"- {facts['stage']}", "---", "", f"# {name}", ""]
    body = [f"\n## {title}\n\n{text}" for title, text in sections.items() if text]
    return "\n".join([*front, _MADE_BY.get(facts["stage"], ""), *body, ""])


def _bullets(items: Mapping[str, Any]) -> str:
    return "\n".join(f"- {k}: {_short(v)}" for k, v in items.items() if v is not None)


def _short(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _digests(data: Mapping[str, Any]) -> dict[str, str]:
    """Files with the first half of their SHA-256; other facts about the data as they are."""
    return {k: v[:32] if isinstance(v, str) else str(v) for k, v in data.items()}


def _git(*arguments: str) -> str | None:
    if shutil.which("git") is None:
        return None
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _cuda() -> Any:  # noqa: ANN401 - torch is looked at only if a stage has loaded it
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None
