"""What the benchmark programs share: arguments, the machine, and one JSON object on stdout."""

import argparse
import json
import platform
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

_STARTED = time.monotonic()
_PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes")


@dataclass(frozen=True)
class Places:
    """Where a benchmark finds and leaves things."""

    base: str
    data: Path
    work: Path
    seed: int

    def file(self, name: str) -> str:
        """A file of the data sets."""
        return str(self.data / name)

    def model(self, rank: int = 32) -> dict[str, Any]:
        """The 4-bit path: LoRA on an nf4 base."""
        return {"base": self.base, "tuning": "qlora", "lora": {"rank": rank}}


def places() -> Places:
    """The program's arguments."""
    parser = argparse.ArgumentParser()
    parser.add_argument("base")
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    return Places(given.base, given.data, given.work, given.seed)


def report(found: Mapping[str, Any]) -> None:
    """Print what was found, and where and how fast."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    machine = {
        "cpu": _cpu(),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime),
        "wall_seconds": round(time.monotonic() - _STARTED),
        "peak_memory_mb": usage.ru_maxrss // 1024,
    }
    json.dump({**found, "machine": machine}, sys.stdout, indent=1, default=_plain)
    sys.stdout.write("\n")


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))


def _plain(value: object) -> object:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)
