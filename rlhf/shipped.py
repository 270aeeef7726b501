"""Files of the repository that a wheel carries too: the demo's configs and its base."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped(name: str) -> Path:
    """A folder such as ``configs/demo``: inside the installed package, or in the clone around it.

    ``pyproject.toml`` says what a wheel takes in.
    """
    inside = _PACKAGE / "shipped_files" / name
    return inside if inside.exists() else _PACKAGE.parent / name
