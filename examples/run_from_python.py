"""Compare LEA-Net with the same network without attention.

Usage: python run_from_python.py DATASET OUT

DATASET has the folders Negative and Positive, or the layout of MVTec AD.
"""

from __future__ import annotations

import sys
from pathlib import Path

from leanet import ColorizerConfig, ComputeConfig, DataConfig, DetectorConfig, RunConfig, colorize, detect


def main(dataset: str, out: str) -> None:
    """Make maps and train detectors on the first of two folds, and print one row per method."""
    config = RunConfig(
        Path(dataset),
        Path(out),
        data=DataConfig(image_size=64, n_splits=2),
        colorizer=ColorizerConfig(colorizer_epochs=1),  # for a quick trial; omit the epochs for real results
        detector=DetectorConfig(adn="ResNet18", caan="ResNet", attention_point=(2,), epochs=1),
        compute=ComputeConfig(folds="0"),
    )
    first, second = config.stages()
    colorize(first)
    table = detect(second)
    for row in table.rows:
        print(f"{row.name:45}  AUROC {row.by_fold('auroc')[0]:.3f}")
    print(f"weights, maps and predictions: {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
