"""How close our networks and maps are to the authors' program: the largest deviation from each recording.

    python -m benchmarks.fidelity REFERENCE --csv fidelity.csv

REFERENCE holds golden/*.json and reference_map.npz, recorded from the authors' program; the weights are drawn again
as for the recordings. It takes about two minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import facts, write_csv
from leanet.color.anomaly_map import authors_anomaly_map
from leanet.compat.authors import colorizer_from_keras_arrays, from_keras_arrays, predict
from leanet.compat.model_file import read_model_file
from leanet.training.detection import authors_loss

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "compat"))
import recordings

Line = tuple[str, str, float]
"""The recording, the quantity, and the largest absolute deviation."""


def pairs(golden: Path) -> Iterator[Line]:
    """The detectors' outputs and losses."""
    image, anomaly_map = recordings.inputs()
    batch = [torch.from_numpy(a).permute(0, 3, 1, 2) for a in (image, anomaly_map)]
    for path in sorted(golden.glob("*_p?.json")):
        r = recordings.load(path.stem, golden)
        model = from_keras_arrays(r["adn"], r["caan"], r["attention_point"], recordings.draw(r["weights"]))
        found = predict(model, image, anomaly_map)
        for name, pair, expected in zip(("ADN", "CAAN"), found, r["outputs"], strict=False):
            yield path.stem, name, float(np.abs(pair - np.array(expected)).max())
        loss = authors_loss(model.adn.activation, model.caan.activation if model.caan else "")
        with torch.inference_mode():
            total = loss(model, *batch, torch.tensor([0, 1]))[0]
        yield path.stem, "loss", abs(float(total) - r["loss"])


def colorizers(golden: Path) -> Iterator[Line]:
    """The colorizers' outputs at the recorded positions, their mean and standard deviation."""
    lightness = torch.from_numpy(recordings.inputs()[0][..., :1]).permute(0, 3, 1, 2)
    for path in sorted(golden.glob("colorizer_*.json")):
        r = recordings.load(path.stem, golden)
        model = colorizer_from_keras_arrays(r["colorizer"], recordings.draw(r["weights"]))
        with torch.inference_mode():
            found = model(lightness).permute(0, 2, 3, 1).numpy()
        places = tuple(np.array(r["sample_index"]).T)
        yield path.stem, "500 places", float(np.abs(found[places] - np.array(r["sample_value"])).max())
        yield path.stem, "mean", abs(float(found.mean()) - r["mean"])
        yield path.stem, "standard deviation", abs(float(found.std()) - r["std"])


def model_files(golden: Path) -> Iterator[Line]:
    """Model files that the authors' program saved."""
    for path in sorted(golden.glob("*.h5")):
        r = recordings.load(path.stem, golden)
        found = predict(read_model_file(path, r["adn"], r["caan"], r["attention_point"]), *recordings.inputs())
        yield path.name, "outputs", float(np.abs(np.array(found) - np.array(r["outputs"])).max())


def maps(reference: Path) -> Iterator[Line]:
    """The authors' anomaly map, in ΔE."""
    with np.load(reference / "reference_map.npz") as r:
        coded, recoloured = (
            torch.from_numpy(a).movedim(-1, 1) for a in (r["lab8"] / np.float32(255), r["recoloured"])
        )
        found = authors_anomaly_map(coded, recoloured)[:, 0].numpy()
        yield "reference_map.npz", "ΔE", float(np.abs(found - r["reference_map"]).max())


def main() -> None:
    """Print and write every comparison, and last the largest deviation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path, metavar="REFERENCE")
    parser.add_argument("--csv", type=Path, default=Path("fidelity.csv"))
    arguments = parser.parse_args()
    golden = arguments.reference / "golden"
    lines: list[Line] = []
    for line in chain(maps(arguments.reference), model_files(golden), colorizers(golden), pairs(golden)):
        lines.append(line)
        print(f"{line[0]:24} {line[1]:20} {line[2]:.1e}", flush=True)
    header = ("compared", "number", "largest_deviation")
    write_csv(arguments.csv, [dict(zip(header, line, strict=True)) for line in lines], facts())
    outputs = [d for _, name, d in lines if name in ("ADN", "CAAN", "outputs", "500 places")]
    losses = [d for _, name, d in lines if name == "loss"]
    print(f"largest deviation of an output {max(outputs):.1e}, of a loss {max(losses):.1e}")


if __name__ == "__main__":
    main()
