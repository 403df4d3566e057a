"""Compare what two runs wrote, byte by byte."""

from __future__ import annotations

from pathlib import Path

TIMED = {"history.csv", "metrics.json"}
"""Files that hold durations, or hashes of files that do."""


def assert_same_files(one: Path, other: Path) -> None:
    """Check that two run folders hold the same bytes; only durations may differ, and the folders' own names."""
    files = _files(one)
    assert files == _files(other)
    assert any(file.name == "predictions.csv" for file in files)
    for file in sorted(files):
        if file.name not in TIMED:
            named = (other / file).read_bytes().replace(str(other).encode(), str(one).encode())
            assert (one / file).read_bytes() == named, file


def _files(folder: Path) -> set[Path]:
    """The files in a folder, except what safetensors leaves of a killed write."""
    there = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {path for path in there if not path.name.startswith(".tmp")}
