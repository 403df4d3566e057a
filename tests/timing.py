"""Report the time of a test run at its end."""

from __future__ import annotations

import time
from collections import defaultdict

import pytest

LIMIT = 300
"""Target for `make test` in seconds; because machines differ, exceeding it is not a failure."""

NAMED = 10
"""Number of slowest tests to list."""


class Timing:
    """Sums up each test's time, including fixtures, and lists the slowest."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the time of a test's setup, call or teardown; xdist passes on its workers' reports."""
        self.seconds[report.nodeid] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the slowest tests and the total."""
        total = time.monotonic() - self.started
        terminalreporter.section(f"the slowest {NAMED} of {len(self.seconds)} tests")
        slowest = sorted(self.seconds, key=self.seconds.__getitem__, reverse=True)[:NAMED]
        for name in slowest:
            terminalreporter.line(f"{self.seconds[name]:6.1f} s  {name}")
        terminalreporter.line(f"{total:6.1f} s  in all")
        if total > LIMIT:
            terminalreporter.section(f"SLOW: {total:.0f} s, over the {LIMIT} s that `make test` may take", red=True)
