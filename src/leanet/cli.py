"""The command line: it parses, calls and prints, without logic. Verbs import heavy libraries when needed."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanet import __version__, terminal
from leanet.errors import UserError, about_file, one_line

if TYPE_CHECKING:
    from leanet.config import Precision
    from leanet.model.anomaly_model import AnomalyModel


@dataclass(frozen=True)
class Verb:
    """A subcommand: the name of its configuration class, a summary, and examples."""

    config: str
    summary: str
    examples: tuple[str, ...]
    action: Callable[[Any], int]


def _run(config: Any) -> int:
    from leanet.console import note
    from leanet.experiment.run import run
    from leanet.report.pictures import draw_detectors
    from leanet.report.text import duration, print_results

    if results := run(config):
        print_results(results)
        note(f"done in {duration(results.seconds)}: {config.out}")
        draw_detectors(results.experiment)
    return 0


def _colorize(config: Any) -> int:
    from leanet.experiment.colorize import colorize
    from leanet.ranks import is_first
    from leanet.report.pictures import draw_colorizers

    run = colorize(config)
    if is_first():
        draw_colorizers(run, config.compute.folds, run.folder.report)
    return 0


def _detect(config: Any) -> int:
    from leanet.experiment.run import results_of
    from leanet.report.pictures import draw_detectors
    from leanet.report.text import print_results

    if results := results_of(config):
        print_results(results)
        draw_detectors(results.experiment)
    return 0


def _study(config: Any) -> int:
    from leanet.experiment.study import study
    from leanet.report.study_figures import draw_study
    from leanet.report.text import print_study

    found = study(config, lambda cells: draw_study(cells, config.out / "report"))
    if found.cells:  # of several processes, only the first has any
        print_study(found)
    return 0


def _report(config: Any) -> int:
    from leanet.report.page import report

    report(config)
    return 0


def _fit(config: Any) -> int:
    from leanet.experiment.fit import fit

    fit(config)
    return 0


def _export(config: Any) -> int:
    from leanet.model.export import export

    export(config)
    return 0


def _info(config: Any) -> int:
    import dataclasses

    import yaml

    from leanet.model.card import in_words, read_card
    from leanet.model.exported import is_exported, load_exported

    found = load_exported(config.model).card if is_exported(config.model) else read_card(config.model)
    print("\n".join(f"# {line}" for line in in_words(found)))
    card = dataclasses.asdict(found)
    if card["normals_peaks"]:
        card["normals_peaks"] = [" ".join(f"{value:.1f}" for value in row) for row in card["normals_peaks"]]
    if card["familiar_distances"]:
        card["familiar_distances"] = " ".join(f"{value:.2f}" for value in card["familiar_distances"])
    print(yaml.safe_dump(card, sort_keys=False, allow_unicode=True), end="")
    return 0


def _predict(config: Any) -> int:
    from leanet.data.threads import processors
    from leanet.model.card import read_card

    def by_tiles(config: Any) -> bool:
        return bool(config.tile or (config.model.is_dir() and read_card(config.model).tile))

    def model(images: int) -> AnomalyModel:
        at_once = processors() if by_tiles(config) else 1
        return _model(config.model, config.device, config.precision, images=images, at_once=at_once)

    if config.executor == "ray":
        from leanet.model.pool_on_ray import predict_pool_on_ray

        return predict_pool_on_ray(config)
    if config.manifest is not None:
        from leanet.model.pool import predict_pool

        return predict_pool(config, model)
    from leanet.model.predict_files import predict

    return predict(config, model)


def _next(config: Any) -> int:
    from leanet.model.next_labels import next_labels

    return next_labels(config, lambda: _model(config.model, config.device, "float32"))


def _serve(config: Any) -> int:
    from leanet.serve.server import serve

    return serve(config, functools.partial(_model, device=config.device, precision=config.precision))


def _model(path: Path, device: str, precision: Precision, *, images: int = 0, at_once: int = 1) -> AnomalyModel:
    """Load a model for this many images and threads; import torch only if needed."""
    from leanet.console import note
    from leanet.model.card import refuse_without_maps
    from leanet.model.exported import ExportedModel
    from leanet.model.load import load

    model = load(path, device=device, precision=precision, images=images, at_once=at_once)
    refuse_without_maps(model.card, path)
    if isinstance(model, ExportedModel):
        return model

    from leanet.model.model import Model
    from leanet.training.compute import keep_freed_memory

    assert isinstance(model, Model)
    keep_freed_memory()
    note(f"computing on {model.compute}")
    return model


def _check(config: Any) -> int:
    from leanet.experiment.check import check_and_print

    return check_and_print(config)


def _arrange(config: Any) -> int:
    from leanet.data.downloads import arrange_download, summary

    for line in summary(arrange_download(config.name, config.download, config.out)):
        print(line)
    print(f"manifest: {config.out}")
    return 0


def _demo(config: Any) -> int:
    from leanet.config import ReportConfig
    from leanet.experiment.demo import demo, finish_demo
    from leanet.lock import alone_in
    from leanet.report.page import report

    with alone_in(config.out):
        run = demo(config)
        _run(run)
        page = report(ReportConfig(run.out))
        finish_demo(config)
    print(f"open the results in a browser: {page}")
    print(f"fit a model to all of these leaves: leanet fit {run.dataset} --out demo-model")
    return 0


def _import_authors(config: Any) -> int:
    from leanet.compat.convert import import_authors

    import_authors(config)
    return 0


def _export_authors(config: Any) -> int:
    from leanet.compat.convert import export_authors

    export_authors(config)
    return 0


VERBS = {
    "run": Verb(
        "RunConfig",
        "Train and test on a folder of normal and anomalous images: both stages, all folds, metrics.",
        (
            "leanet run leaves --out leaves-run",
            "leanet run leaves --out leaves-run --image-size 128 --attention-point 1 3",
            "leanet run leaves --out quick --max-per-class 100 --folds 0     # a quick look",
            "leanet run --config leaves-run/config.yaml --out again          # the same run again",
        ),
        _run,
    ),
    "colorize": Verb(
        "ColorizeConfig",
        "Stage 1: train the colorizers and write the anomaly maps.",
        ("leanet colorize leaves --out leaves-run",),
        _colorize,
    ),
    "detect": Verb(
        "DetectConfig",
        "Stage 2: train LEA-Nets on a run's images and anomaly maps.",
        (
            "leanet detect leaves-run",
            "leanet detect leaves-run --adn CNN --caan Direct --attention-point 3",
            "leanet detect leaves-run --p-rate 0.05 --out few-anomalies",
        ),
        _detect,
    ),
    "study": Verb(
        "StudyConfig",
        "Compare a grid of detectors, attention points and shares of anomalies on the same folds and maps.",
        (
            "leanet study leaves --out leaves-study --attention-point 1 2 3 --p-rate 0.05 1.0 --seeds 3",
            "leanet study leaves --out leaves-study --adn ResNet18 CNN --caan ResNet Direct",
        ),
        _study,
    ),
    "report": Verb(
        "ReportConfig",
        "Write one page with a run's results: tables, curves, pictures. It opens offline.",
        (
            "leanet report leaves-run       # writes leaves-run/report/index.html",
            "leanet report leaves-study/p-rate-0.05 --detector ResNet18-ResNet-p2     # a cell of a study",
        ),
        _report,
    ),
    "fit": Verb(
        "FitConfig",
        "Train one model on a folder of images, to predict new ones.",
        (
            "leanet fit leaves --out leaf-model",
            "leanet fit good-tiles --out tile-model --image-size 128     # only good/: no detector",
        ),
        _fit,
    ),
    "predict": Verb(
        "PredictConfig",
        "Predict image files: probability, decision and place; overlays and maps on request.",
        (
            "leanet predict leaf-model new-leaves --out predictions.csv",
            "leanet predict leaf-model a.jpg 'field/**/*.jpg' --maps maps",
            "leanet predict leaf-model --manifest pool.parquet --out answers     # millions; resumes",
        ),
        _predict,
    ),
    "next": Verb(
        "NextConfig",
        "Choose the unlabeled pictures whose labels help a model most.",
        (
            "leanet next leaf-model new-leaves --count 20        # writes next.csv",
            "leanet next leaf-model new-leaves --out tasks.json  # for Label Studio, with predictions",
        ),
        _next,
    ),
    "export": Verb(
        "ExportConfig",
        "Write a model as one graph for ONNX Runtime or OpenVINO, for machines without PyTorch.",
        (
            "leanet export leaf-model        # writes leaf-model.onnx",
            "leanet predict leaf-model.onnx new-leaves",
            "leanet export leaf-model --format openvino --int8 leaves --out leaf-model-int8.xml",
        ),
        _export,
    ),
    "serve": Verb(
        "ServeConfig",
        "Serve a model over HTTP: a page to drop images on, and an API for programs.",
        (
            "leanet serve leaf-model         # then open http://127.0.0.1:8000",
            "leanet serve leaf-model.onnx --host 0.0.0.0 --token-file secret",
            "leanet serve leaf-model tile=tile-2.onnx --workers 2     # two models by name, two processes",
        ),
        _serve,
    ),
    "info": Verb(
        "InfoConfig",
        "Print what a model holds: networks, threshold, training data and its measured quality.",
        ("leanet info leaf-model",),
        _info,
    ),
    "check": Verb(
        "CheckConfig",
        "Check a dataset folder: counts, unreadable files, duplicates, and how long a run will take.",
        ("leanet check leaves", "leanet check leaves --image-size 128 --no-estimate"),
        _check,
    ),
    "arrange": Verb(
        "ArrangeConfig",
        "Write a manifest of a download of one of the authors' data sets.",
        (
            "leanet arrange plantvillage/Potato PlantVillage-Dataset --out potato.csv",
            "leanet run potato.csv --out potato-run",
        ),
        _arrange,
    ),
    "demo": Verb(
        "DemoConfig",
        "Run and report on synthetic leaves with discolored spots: a LEA-Net, and its ADN without attention.",
        ("leanet demo",),
        _demo,
    ),
    "import-authors": Verb(
        "ImportAuthorsConfig",
        "Convert the authors' files: a model file to a model folder, or fold folders to a run folder.",
        (
            "leanet import-authors model.h5 --adn CNN --caan Direct --attention-point 1 --out model",
            "leanet import-authors PlantVillage/Potato --out potato-run     # holds 0/RGB.npz and so on",
        ),
        _import_authors,
    ),
    "export-authors": Verb(
        "ExportAuthorsConfig",
        "Write a run's folds in the format of the authors' program.",
        ("leanet export-authors potato-run Potato-folds",),
        _export_authors,
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 success, 1 some images were unreadable, 2 a user error."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return guarded(lambda: _dispatch(arguments))


def guarded(action: Callable[[], int]) -> int:
    """Run an action; a user error becomes one line and exit code 2."""
    terminal.set_up()
    warnings.filterwarnings(
        "ignore", category=UserWarning, module=r"PIL\."
    )  # of damaged EXIF, say, and no file named
    try:
        return action()
    except UserError as error:
        return _complain(error.on_command_line)
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to resume", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if (said := about_file(error)) is None:  # a defect
            raise
        return _complain(said)


def _dispatch(arguments: list[str]) -> int:
    if arguments in ([], ["help"]) or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"leanet {__version__}")
        return 0
    name, *rest = arguments
    if name not in VERBS:
        raise UserError(f"unknown command '{name}'. Commands: {', '.join(VERBS)}; see leanet --help.")
    config = parse(name, rest)
    if config is None:
        return 0
    from leanet.console import show_log

    show_log()
    return VERBS[name].action(config)


def parse(verb: str, arguments: list[str]) -> Any:
    """The verb's configuration from its arguments and a --config file, which they override; None after --help.

    Raises:
        UserError: an unknown option or key, or a value that its option does not take.
    """
    import tyro

    from leanet.config import verbs

    config_class = getattr(verbs, VERBS[verb].config)
    errors = io.StringIO()
    wrapped = {"-h", "--help"} & set(arguments)
    try:
        with contextlib.redirect_stderr(errors), contextlib.nullcontext() if wrapped else terminal.unwrapped():
            return tyro.cli(
                config_class,
                prog=f"leanet {verb}",
                description=_describe(verb),
                args=_with_config_file(config_class, arguments),
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as stop:
        if not stop.code:
            return None
        raise UserError(_one_line(errors.getvalue(), verb)) from None


def _with_config_file(config_class: type, arguments: list[str]) -> list[str]:
    from leanet.config.options import read_config_file, to_arguments

    arguments = [
        part for given in arguments for part in (given.split("=", 1) if given[:9] == "--config=" else [given])
    ]
    if "--config" not in arguments:
        return arguments
    at = arguments.index("--config")
    if at + 1 == len(arguments):
        raise UserError("--config: expected the name of a YAML file after it.")
    path = Path(arguments[at + 1])
    rest = arguments[:at] + arguments[at + 2 :]
    return to_arguments(read_config_file(path), config_class, path, rest)


def _describe(verb: str) -> str:
    examples = "\n".join(f"    {example}" for example in VERBS[verb].examples)
    config = "--config FILE.yaml reads options from a file; options on the command line override it."
    return f"{VERBS[verb].summary}\n\nexamples:\n{examples}\n\n{config}"


def _overview() -> str:
    width = max(map(len, VERBS))
    lines = "\n".join(f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items())
    return (
        "leanet: color anomaly detection with LEA-Net: which images are anomalous, where, and how surely.\n\n"
        f"usage: leanet COMMAND ...        leanet COMMAND --help for its options\n\n{lines}\n\n"
        "examples:\n  leanet check leaves                 # leaves/good and leaves/bad hold the images\n"
        "  leanet run leaves --out leaves-run  # folds, anomaly maps, LEA-Nets, predictions, metrics"
    )


def _one_line(box: str, verb: str) -> str:
    """The parser's boxed message as one line."""
    text = " ".join(re.sub(r"[\u2500-\u257f]+|-{4,}|\x1b\[[0-9;]*m", " ", box).split())
    if wrong := re.match(r"Value error Error parsing (--[\w-]+): (.*?) Argument helptext: \1 (\S+)", text):
        text = _wrong_number(*wrong.groups())
    elif empty := re.search(r"Missing value for argument '(--[\w-]+)'", text):
        text = f"{empty[1]}: expected a value after it."
    elif unknown := re.search(
        r"Unrecognized options: (.*?)(?= Perhaps you meant: (--[\w-]+)| Arguments similar| For full|$)", text
    ):
        text = _unknown(re.split(r",? ", unknown[1]), unknown[2])
    elif missing := re.match(r"Required options Missing from leanet [\w-]+: (.*)", text):
        names = re.findall(r"(?:^|\(required\) )(?:\[\S+=\])?(--[\w-]+|[A-Z]+)\b", missing[1])
        text = f"missing {', '.join(names)}."
    text = re.sub(r"^Invalid choice |For full helptext.*", "", text).strip()
    return f"{text or 'bad arguments'} See leanet {verb} --help."


def _unknown(given: list[str], near: str | None) -> str:
    """The message for options that there are not, or words that no option takes."""
    if names := [part for part in given if part.startswith("-")]:
        return f"unknown option {', '.join(names)}." + (f" Did you mean {near}?" if near else "")
    return f"unexpected {' '.join(given)}."


def _wrong_number(option: str, said: str, kind: str) -> str:
    """The message for an option without a number; the parser's own message has Python's types and errors."""
    several = re.search(r"\[(.*?)\]", said)
    given = re.findall(r"'([^']*)'", several[1] if several else said)
    number = {"[INT": "whole numbers", "[FLOAT": "numbers"}.get(kind)
    number = number or ("a whole number" if "INT" in kind else "a number")
    return f"{option} {' '.join(given)}: expected {number}."


def _complain(message: str) -> int:
    print(f"error: {one_line(message)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
