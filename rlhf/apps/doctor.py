"""What this machine can do: device, dtype, quantised kernels, versions, and what is missing."""

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

import psutil
import torch
from packaging.requirements import Requirement

from rlhf import provenance
from rlhf.model.checks.kernels import kernel_error
from rlhf.model.load import compute_dtype

_TOLERANCE = 0.05
"""int8 rounds the activations too where a GPU multiplies; a broken kernel is off by more."""
_KERNELS: dict[Literal["nf4", "int8"], str] = {"nf4": "4-bit kernels", "int8": "8-bit kernels"}
_TRACKERS = ("tensorboard", "trackio", "wandb")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found, a line each, and what to do about what was not."""

    found: dict[str, str]
    missing: tuple[str, ...]


def run() -> Diagnosis:
    """Look at this machine; the quantised kernels are really run."""
    found = {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"{_gib(psutil.virtual_memory().total)} of memory, "
        f"{_gib(shutil.disk_usage('.').free)} free on disk",
        "device": _device(),
        "compute dtype": str(compute_dtype()).removeprefix("torch."),
    }
    broken: list[str] = []
    for storage, name in _KERNELS.items():
        found[name] = _kernels(storage)
        if not found[name].startswith("work"):
            broken.append(
                f"{name} for this device: set model.quantization: none, or install a "
                "bitsandbytes that supports it"
            )
    found["versions"] = ", ".join(f"{k} {v}" for k, v in provenance.versions().items())
    found["trackers"] = ", ".join(filter(_is_installed, _TRACKERS)) or (
        "none; `pip install tensorboard` for report_to: [tensorboard]"
    )
    found["browser"] = next(filter(None, map(shutil.which, _BROWSERS)), None) or (
        "no Chromium; only the tests of the labelling pages need it"
    )
    return Diagnosis(found, (*_unmet(), *broken))


def _device() -> str:
    if not torch.cuda.is_available():
        return "cpu (no GPU that this torch can use)"
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return f"{properties.name}, {_gib(properties.total_memory)}"


def _kernels(storage: Literal["nf4", "int8"]) -> str:
    try:
        error = kernel_error(storage)
    except (RuntimeError, NotImplementedError) as problem:
        return f"fail ({' '.join(str(problem).split())})"
    verdict = "work" if error < _TOLERANCE else "give wrong results"
    return f"{verdict} (relative error {error:.1e}, gradient included)"


def _unmet() -> Iterator[str]:
    """Our own requirements that are absent or of another version."""
    try:
        wanted = requires("rlhf") or []
    except PackageNotFoundError:
        yield "rlhf itself is not installed here: run `pip install -c constraints.txt -e .`"
        return
    for requirement in map(Requirement, wanted):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        if not _is_installed(requirement.name):
            yield f"{requirement.name}: run `pip install '{requirement}'`"
        elif not requirement.specifier.contains(version(requirement.name), prereleases=True):
            have = version(requirement.name)
            yield f"{requirement.name} is {have}: run `pip install '{requirement}'`"


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
