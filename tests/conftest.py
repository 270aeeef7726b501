"""Tiny models on disk, made once per test session; no network, ever."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# dev is what one waits for; ci, in `make test-slow`, tries more and the same every time
settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=500, deadline=None, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

# one thread is faster than two for models this small, and leaves the others their core
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--forbid-skips", default="", metavar="MARKERS", help="fail if a test of these was skipped"
    )


class _Forbidden:
    """Notes the tests that were skipped though nothing of their kind may be."""

    def __init__(self, markers: set[str]) -> None:
        self.markers = markers
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and self.markers & set(report.keywords):
            self.skipped.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.skipped:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for name in self.skipped:
            terminalreporter.write_line(f"skipped, which --forbid-skips forbids: {name}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    markers = set(filter(None, str(config.getoption("--forbid-skips")).split(",")))
    if markers and not hasattr(config, "workerinput"):  # the process that hears of every test
        config.pluginmanager.register(_Forbidden(markers))


@pytest.fixture(scope="session")
def make_base(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``make_base("qwen2", pad_is_eos=True)``: a folder with a tiny random base."""
    from tests import tiny  # torch is imported only where a model is asked for

    root = tmp_path_factory.mktemp("bases")

    def make(architecture: str = "llama", *, pad_is_eos: bool = False, seed: int = 0) -> Path:
        folder = root / f"{architecture}-{pad_is_eos}-{seed}"
        if not folder.exists():
            tiny.save_base(folder, architecture, pad_is_eos=pad_is_eos, seed=seed)
        return folder

    return make


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Any]:
    """A PostgreSQL server, :class:`tests.postgresql.Server`."""
    from tests import postgresql

    if postgresql.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with postgresql.server() as running:
        yield running


@pytest.fixture(scope="session")
def base(make_base: Callable[..., Path]) -> Path:
    """A tiny random Llama."""
    return make_base()
