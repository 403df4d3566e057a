r"""A head on a frozen network, with and without attention, beside every simpler row, for several numbers of labels.

    python -m benchmarks.heads magnetic_tile --out heads-tile --image-size 256 --p-rates 0.0128 0.05 1

The anomaly maps and the features are computed once; each share of labeled anomalies then takes about a minute.
Printed as Markdown: every row with its interval, and the head with attention minus each row. To resume, repeat the
command.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.common import call, data_options, experiment_parser, facts, write_csv
from benchmarks.results import lines_of, results_of, tell

ADN = "EfficientNet-Lite0"
HEAD = ("--adn", ADN, "--tune", "head")


def main() -> None:
    options = experiment_parser(__doc__, "heads")
    options.add_argument("--p-rates", nargs="+", default=["0.05"], help="shares of the training anomalies to label")
    options.add_argument("--seeds", default="3", help="draws of the labeled anomalies (%(default)s)")
    options.add_argument("--maps", nargs="+", default=["features"], help="sources of the maps (%(default)s)")
    given = options.parse_args()
    run = str(given.out / "run")
    call("colorize", str(given.dataset), "--out", run, "--maps", *given.maps, *data_options(given))
    lines: list[dict[str, object]] = []
    for p_rate in given.p_rates:
        home: Path = given.out / f"labeled-{p_rate}"
        call("detect", run, "--out", str(home), *HEAD, "--p-rate", p_rate, "--seeds", given.seeds)
        rows = results_of(home, f"{ADN}-head-attention")
        print(f"\n## {given.dataset.name}, p_rate {p_rate}")
        tell(rows, rows[:1])
        lines += [{"p_rate": p_rate, **line} for line in lines_of(rows, rows[:1])]
    write_csv(given.csv or given.out / "heads.csv", lines, facts())


if __name__ == "__main__":
    main()
