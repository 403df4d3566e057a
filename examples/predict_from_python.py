"""Predict the pictures of a folder.

Usage: python predict_from_python.py MODEL FOLDER

MODEL is a folder from `leanet fit` or a file from `leanet export`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import leanet


def suspicion(answer: leanet.Result) -> float:
    """The probability or, of a model of normal pictures only, the mean of the map."""
    return (answer.mean_delta_e or 0) if answer.probability is None else answer.probability


def main(model_path: str, folder: str) -> None:
    """Print one line per picture, most suspicious first, with its map's strongest position."""
    model = leanet.load(model_path)
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in {".png", ".jpg", ".jpeg"})
    answers = list(zip(files, model.predict(files), strict=True))
    for file, answer in sorted(answers, key=lambda pair: suspicion(pair[1]), reverse=True):
        probability = "     " if answer.probability is None else f"{answer.probability:.3f}"
        where = f"box {answer.box}" if answer.box else "no box"
        print(f"{answer.decision:9}  {probability}  map mean {answer.mean_delta_e:5.2f}  {where}  {file.name}")
    anomalous = sum(answer.anomalous for _, answer in answers)
    print(f"{anomalous} of {len(answers)} pictures are anomalous")


if __name__ == "__main__":
    main(*sys.argv[1:])
