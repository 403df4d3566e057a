"""How long `leanet --help` and `leanet.load` take, including startup: medians over several starts.

    python -m benchmarks.startup

The script fails if `--help` imports torch. The model is an untrained LEA-Net of ResNet18 with a Unet at 64 px.

The targets: 0.5 s for `--help`; for loading a model, 1.3 times the import of torch.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import LEANET, facts, parser, verdict, write_csv
from benchmarks.serve_load import made_model

BAR, LOAD_BAR = 0.5, 1.3
HELPS = (("--help",), ("run", "--help"))
IMPORT, LOAD = "import torch", "leanet.load"


def seconds(command: list[str]) -> float:
    """Seconds of one start, until the process ends."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def modules_of(arguments: tuple[str, ...]) -> set[str]:
    """The packages that a command imports."""
    program = (
        "import sys; from leanet.cli import main; main(sys.argv[1:]); "
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    child = subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True)
    return set(child.stderr.split())


def main() -> None:
    """Check the imports, then time the starts."""
    arguments = parser(__doc__, "startup")
    arguments.add_argument("--starts", type=int, default=20, help="how often each is started (%(default)s)")
    given = arguments.parse_args()
    machine = facts()
    for call in HELPS:
        assert "torch" not in modules_of(call), f"leanet {' '.join(call)} imports torch"
    commands = {"python, nothing else": [sys.executable, "-c", ""]}
    commands |= {f"leanet {' '.join(call)}": [LEANET, *call] for call in HELPS}
    commands[IMPORT] = [sys.executable, "-c", "import torch"]
    scratch = tempfile.TemporaryDirectory(prefix="leanet-benchmark-")
    model = made_model(Path(scratch.name) / "model", 64)
    commands[LOAD] = [sys.executable, "-c", f"import leanet; leanet.load({str(model)!r})"]
    rows: list[dict[str, object]] = []
    medians = {}
    for name, command in commands.items():
        seconds(command)  # warm up the disk cache
        times = [seconds(command) for _ in range(given.starts)]
        medians[name] = statistics.median(times)
        print(f"{name:25} {medians[name]:.3f} s  ({min(times):.3f} .. {max(times):.3f}, {len(times)} starts)")
        rows.append(
            {"command": name, "median_s": medians[name], "min_s": min(times), "max_s": max(times), "bar_s": BAR}
        )
    scratch.cleanup()
    write_csv(given.csv, rows, machine)
    measured = medians["leanet --help"]
    ratio = medians[LOAD] / medians[IMPORT]
    print("--help does not import torch")
    print(f"loading a model takes {ratio:.2f} times as long as importing torch ({verdict(ratio <= LOAD_BAR)}: 1.3)")
    print(f"leanet --help {measured:.2f} s, {measured / BAR:.2f} of the bar ({verdict(measured <= BAR)}: {BAR} s)")


if __name__ == "__main__":
    main()
