r"""Kinds of anomaly that training lacks, beside a run that has seen them: the answer, and each of its parts alone.

    python -m benchmarks.unseen_kinds magnetic_tile --out unseen-tile --image-size 256 --max-per-class 200

Two runs of the same images with the default head: with ordinary folds, and with `--hold-out kind`. Each kind is
ranked against the normal test images of its folds. Printed as Markdown, kind by kind; the CSV file has every
number. To resume, repeat the command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from benchmarks.common import call, data_options, experiment_parser, facts, write_csv
from benchmarks.heads import HEAD
from leanet.experiment.finished import finished, recorded_detector
from leanet.experiment.run_folder import RunFolder
from leanet.experiment.unseen_kinds import ANSWER, OfKind, by_kind, parts_of

RUNS: dict[str, tuple[str, ...]] = {"seen": (), "unseen": ("--hold-out", "kind")}

Found = Mapping[tuple[str, str], OfKind]
"""(kind, part) -> what was found."""


def main() -> None:
    options = experiment_parser(__doc__, "unseen_kinds")
    options.set_defaults(p_rate="1")
    options.add_argument("--maps", nargs="+", default=["features"], help="sources of the maps (%(default)s)")
    given = options.parse_args()
    found: dict[str, Found] = {}
    for name, folds in RUNS.items():
        run = str(given.out / name)
        call("colorize", str(given.dataset), "--out", run, "--maps", *given.maps, *data_options(given), *folds)
        call("detect", run, *HEAD, "--p-rate", given.p_rate)
        experiment, _ = finished(recorded_detector(RunFolder(given.out / name)))
        found[name] = {(one.kind, one.part): one for one in by_kind(experiment.run, parts_of(experiment))}
    tell(found["seen"], found["unseen"])
    lines = [{"run": name, **asdict(one)} for name, of_run in found.items() for one in of_run.values()]
    write_csv(given.csv or given.out / "unseen_kinds.csv", lines, facts())


def tell(seen: Found, unseen: Found) -> None:
    """Print a line for each kind: 'seen / unseen', AUROCs of all parts, then what the answer finds."""
    parts = list(dict.fromkeys(part for _, part in unseen))
    print(
        f"\nseen / unseen; AUROC, and at the answer's threshold\n\n| kind | images | {' | '.join(parts)} ", end=""
    )
    print(f"| found | false alarms |\n|---|---|{'---|' * (len(parts) + 2)}")
    for kind in dict.fromkeys(kind for kind, _ in unseen):
        cells = [_pair(seen[kind, part].auroc, unseen[kind, part].auroc) for part in parts]
        one, other = seen[kind, ANSWER], unseen[kind, ANSWER]
        cells += [_pair(one.found, other.found), _pair(one.false_alarms, other.false_alarms)]
        print(f"| {kind} | {other.images} | {' | '.join(cells)} |")


def _pair(one: float | None, other: float | None) -> str:
    return " / ".join("undefined" if value is None else f"{value:.3f}" for value in (one, other))


if __name__ == "__main__":
    main()
