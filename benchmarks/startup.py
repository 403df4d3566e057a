"""How long `leanet --help` takes from start to end: the median of some starts. Fails if it imports torch.

    python -m benchmarks.startup

The bar: 0.5 s.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.common import LEANET, facts, parser, verdict, write_csv

BAR = 0.5
HELPS = (("--help",), ("run", "--help"))


def seconds(command: list[str]) -> float:
    """One start, from nothing to the prompt."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def modules_of(arguments: tuple[str, ...]) -> set[str]:
    """The packages that a call of the command line imports."""
    program = (
        "import sys; from leanet.cli import main; main(sys.argv[1:]); "
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    child = subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True)
    return set(child.stderr.split())


def main() -> None:
    """Look at the imports, then time the starts."""
    arguments = parser(__doc__, "startup")
    arguments.add_argument("--starts", type=int, default=20, help="how often each is started (%(default)s)")
    given = arguments.parse_args()
    machine = facts()
    for call in HELPS:
        assert "torch" not in modules_of(call), f"leanet {' '.join(call)} imports torch"
    commands = {"python, nothing else": [sys.executable, "-c", ""]}
    commands |= {f"leanet {' '.join(call)}": [LEANET, *call] for call in HELPS}
    rows: list[dict[str, object]] = []
    medians = {}
    for name, command in commands.items():
        seconds(command)  # the files are read from disk once
        times = [seconds(command) for _ in range(given.starts)]
        medians[name] = statistics.median(times)
        print(f"{name:25} {medians[name]:.3f} s  ({min(times):.3f} .. {max(times):.3f}, {len(times)} starts)")
        rows.append(
            {"command": name, "median_s": medians[name], "min_s": min(times), "max_s": max(times), "bar_s": BAR}
        )
    write_csv(given.csv, rows, machine)
    measured = medians["leanet --help"]
    print("torch is not imported")
    print(f"leanet --help {measured:.2f} s, {measured / BAR:.2f} of the bar ({verdict(measured <= BAR)}: {BAR} s)")


if __name__ == "__main__":
    main()
