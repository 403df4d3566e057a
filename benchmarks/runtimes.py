"""One fold's model in every runtime: milliseconds per image, and the AUROC on unseen images.

    python -m benchmarks.runtimes potato-256 --work runtimes

RUN is a run folder with a trained detector. Its colorizer and LEA-Net become a model in --work, exported to ONNX,
to OpenVINO and to OpenVINO with int8 convolutions, calibrated on training images. After a warm-up, each runtime
predicts the fold's test images from their files, as `leanet predict` does; the order is reversed in every round.
The bar: the AUROC of int8 within 0.002 of float32's in PyTorch.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.common import facts, parser, seconds_an_image, verdict, write_csv
from leanet.config import ComputeConfig
from leanet.data.decode import decode
from leanet.experiment.open_run import Run, find
from leanet.experiment.run_folder import read_config
from leanet.maps.registry import build_map_source
from leanet.model.anomaly_model import AnomalyModel
from leanet.model.card import Card, sha256_of_file
from leanet.model.export import CALIBRATION_IMAGES, write_onnx, write_openvino
from leanet.model.exported import load_exported
from leanet.model.model import load, save
from leanet.model.predict_files import results_of
from leanet.model.result import Result
from leanet.networks.registry import build_leanet
from leanet.results.metrics import PLAIN_THRESHOLD
from leanet.training.checkpoint import load_weights

BAR = 0.002
FLOAT32 = "PyTorch float32"
INT8 = "OpenVINO int8"


def save_fold(run: Run, fold: int, detector: tuple[str, str, int], folder: Path) -> None:
    """Write a fold's networks as a model folder."""
    adn, caan, point = detector
    home = run.folder.fold(fold)
    colorizer_name: str = run.folder.read_config()["colorizer"]
    network = build_leanet(adn, caan, (point,), run.side)
    trained = home.detector(f"{adn}-{caan}-p{point}")
    load_weights(network, trained.weights)
    scale, unit = read_config(trained.config)["map_scale"], run.maps(fold).normals_p99
    card = Card(
        adn,
        caan,
        (point,),
        run.side,
        run.map_coding,
        scale,
        unit,
        PLAIN_THRESHOLD,
        "a fold",
        colorizer=colorizer_name,
    )
    maps = build_map_source(run.map_source, run.side, card.maps)
    load_weights(maps.stored, home.map_source(run.map_source).weights())
    save(folder, card, network, maps)


def refuse_another(work: Path, run: Run, fold: int, detector: tuple[str, str, int]) -> None:
    """Stop if the models in --work are from another run, fold or detector: they may have seen the images."""
    adn, caan, point = detector
    weights = run.folder.fold(fold).detector(f"{adn}-{caan}-p{point}").weights
    of, now = work / "made-of.txt", f"{weights.resolve()} {sha256_of_file(weights)}\n"
    if work.exists() and not (of.exists() and of.read_text(encoding="utf-8") == now):
        raise SystemExit(f"--work {work}: is not of {weights} as it is now. Choose another folder.")
    work.mkdir(parents=True, exist_ok=True)
    of.write_text(now, encoding="utf-8")


def models(
    run: Run, dataset: Path, fold: int, detector: tuple[str, str, int], work: Path
) -> dict[str, AnomalyModel]:
    """The fold's model in every runtime; existing exports are reused."""
    folder, onnx, plain, int8 = (work / name for name in ("model", "model.onnx", "model.xml", "int8.xml"))
    if not folder.exists():
        save_fold(run, fold, detector, folder)
    model = load(folder)
    if not onnx.exists():
        write_onnx(model, onnx)
    if not plain.exists():
        write_openvino(model, plain, None)
    if not int8.exists():
        train = run.folds[fold].train
        chosen = train[:: max(1, len(train) // CALIBRATION_IMAGES)][:CALIBRATION_IMAGES]
        write_openvino(model, int8, [decode(dataset / file) for file in chosen])
    return {
        FLOAT32: model,
        "PyTorch bfloat16": load(folder, ComputeConfig(device="cpu", precision="bfloat16", compile="off")),
        "ONNX Runtime": load_exported(onnx),
        "OpenVINO": load_exported(plain),
        INT8: load_exported(int8),
    }


def probabilities_of(model: AnomalyModel, files: list[Path]) -> np.ndarray[Any, Any]:
    """The model's probabilities of image files."""
    found = [result for _, _, result in results_of(model, files) if isinstance(result, Result)]
    return np.array([result.probability for result in found])


def main() -> None:
    """Time every runtime, and compare their predictions."""
    arguments = parser(__doc__, "runtimes")
    arguments.add_argument("run", type=Path, metavar="RUN")
    arguments.add_argument("--work", type=Path, required=True, help="folder for the model and its exports")
    arguments.add_argument("--fold", type=int, default=0, help="which fold (%(default)s)")
    arguments.add_argument(
        "--detector", nargs=3, default=("ResNet18", "ResNet", "2"), metavar=("ADN", "CAAN", "POINT")
    )
    arguments.add_argument("--rounds", type=int, default=2, help="timings of each runtime (%(default)s)")
    given = arguments.parse_args()
    machine, run = facts(), find(given.run)
    dataset = Path(run.folder.read_config()["dataset"])
    adn, caan, point = given.detector
    detector = adn, caan, int(point)
    refuse_another(given.work, run, given.fold, detector)
    runtimes = models(run, dataset, given.fold, detector, given.work)
    rows = run.rows(run.folds[given.fold].test)
    files = [dataset / run.images[row].file for row in rows]
    said: dict[str, np.ndarray[Any, Any]] = {}
    times: dict[str, list[float]] = {name: [] for name in runtimes}

    def asked(name: str) -> Callable[[], None]:
        return lambda: said.update({name: probabilities_of(runtimes[name], files)})

    for model in runtimes.values():
        probabilities_of(model, files[:32])
    for k in range(given.rounds):
        for name in list(runtimes) if k % 2 == 0 else reversed(list(runtimes)):
            times[name].append(seconds_an_image(asked(name), len(files)))

    aurocs = {name: float(roc_auc_score(run.labels[rows], said[name])) for name in runtimes}
    lines: list[dict[str, object]] = []
    print(f"{len(files)} test images of fold {given.fold}, {run.side} px\n")
    print("| runtime | ms an image | times PyTorch float32 | AUROC | largest difference of a probability |")
    print("|---|---|---|---|---|")
    for name in runtimes:
        ms = 1000 * statistics.median(times[name])
        ratio = statistics.median(a / b for a, b in zip(times[FLOAT32], times[name], strict=True))
        apart = float(np.abs(said[name] - said[FLOAT32]).max())
        print(f"| {name} | {ms:.1f} | {ratio:.2f} | {aurocs[name]:.4f} | {apart:.1e} |")
        lines.append(
            {"runtime": name, "ms": ms, "ratio": ratio, "auroc": aurocs[name], "probability_difference": apart}
        )
    write_csv(given.csv, lines, machine)
    difference = abs(aurocs[INT8] - aurocs[FLOAT32])
    print(f"\nAUROC of int8 and float32 differ by {difference:.4f} ({verdict(difference <= BAR)}: {BAR})")


if __name__ == "__main__":
    main()
