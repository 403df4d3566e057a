"""Label Studio's JSON export as a data set: image-level choices, and regions as anomalies with masks."""

from __future__ import annotations

import functools
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from leanet.data.dataset import Dataset, Sample
from leanet.data.find import IMAGE_SUFFIXES, find_images, folded, listed
from leanet.data.label_studio import EXPORT, Annotation, Task, label_of, read_export, task_place
from leanet.data.labels import REMEDY, LabelFile, in_order, meaning
from leanet.data.layout import MASKS
from leanet.data.pictures import joined, read_place
from leanet.data.registry import register_source
from leanet.data.remote import address, is_url
from leanet.data.tables import column_name
from leanet.errors import UserError

_SERVED = re.compile(r"https?://[^/]+(/[^?]*)?/data/(upload|local-files)/", re.IGNORECASE)
"""An address at which Label Studio itself serves a picture, to those who are logged in."""

_UPLOAD = "/data/upload/"
"""In the path of a picture that was uploaded to Label Studio."""

_LOADED = re.compile(r"[0-9a-f]{8}-")
"""What Label Studio puts before the name of a file that is uploaded to it."""


@register_source("label-studio")
class LabelStudioSource(LabelFile):
    """The tasks of a JSON export.

    A task's choice is its label. A region makes its picture anomalous, of the kind that the region's label names,
    unless --normal has it. Where no task has a choice, a picture whose annotation has no regions is normal. Tasks
    without such an answer are left out. Data that was imported with the tasks, and other choices, are facts.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    def read(self, *, normals_only: bool = False) -> tuple[Dataset, Sequence[str]]:
        """The tasks that have a label."""
        place = address(self.dataset)
        tasks = read_export(place)
        asked = self._question(place, tasks)
        by_file, samples = dict[str, Sample](), list[Sample]()
        for task in tasks:
            if (sample := self._sample(place, task, asked)) is None:
                continue
            if before := by_file.get(sample.file):
                two = "two labels, from different tasks" if before.label != sample.label else "two tasks"
                raise UserError(f"{place}: {sample.file} has {two}. Keep one.")
            by_file[sample.file] = sample
            samples.append(sample)
        if not samples:
            raise UserError(f"{place}: no task has a label. {EXPORT}, after labeling.")
        left = len(tasks) - len(samples)
        notes = [f"left out, without a label: {left} of {len(tasks)} tasks"] if left else []
        if lost := [sample.file for sample in samples if self._is_lost(sample.file)]:
            where = f"not found in {self.dataset.parent} or below, or several"
            notes.append(f"{where}: {len(lost)} of {len(samples)} images, such as {_path_of(lost[0])}")
        kept = in_order(samples, normals_only=normals_only)
        return Dataset(self.dataset, kept, tuple(notes), base=self.dataset.parent, is_exact=True), ()

    def _question(self, place: str, tasks: Sequence[Task]) -> str | None:
        """The name of the choices that are labels; None if there are none."""
        names = {name: None for task in tasks for answer in task.annotations for name in answer.choices}
        chosen = self.options.column("label")
        if chosen in names:
            return chosen
        if chosen != "label":
            raise UserError(
                f"--columns label={chosen}: {place} has no such choices. It has {listed(names) or 'none'}."
            )
        if len(names) > 1:
            raise UserError(
                f"{place}: several choices for an image: {listed(names)}. Name those that are labels, such as "
                f"--columns label={next(iter(names))}."
            )
        return next(iter(names), None)

    def _sample(self, place: str, task: Task, asked: str | None) -> Sample | None:
        """A task's image; None if it has no label."""
        said = [found for each in task.annotations if (found := self._label(place, task, each, asked))]
        if not said:
            return None
        if len({label for label, _ in said}) > 1:
            raise _two_labels(place, task)
        label, kind = said[-1]
        file = self._file(place, task)
        root = place.rpartition("/")[0] if is_url(place) else str(self.dataset.parent)
        marked = {found for answer in task.annotations for found in self._anomalous(answer)} if label else set()
        facts = {column_name(k): str(v) for k, v in task.data.items() if isinstance(v, str | int | float | bool)}
        others = {name: c[0] for name, c in task.annotations[-1].choices.items() if name != asked and c}
        return Sample(
            file,
            label,
            unicodedata.normalize("NFC", kind),
            unicodedata.normalize("NFC", facts.get(column_name(self.options.column("group")), "")),
            task_place(PurePosixPath(place).name, task, marked) if marked else None,
            partial(read_place, joined(root, file)),
            facts | {column_name(name): choice for name, choice in others.items()},
        )

    def _label(self, place: str, task: Task, answer: Annotation, asked: str | None) -> tuple[int, str] | None:
        """Label and kind by one annotation; None if it has neither."""
        chosen = answer.choices.get(asked, ()) if asked is not None else ()
        said = []
        for choice in chosen:
            if (found := meaning(choice, self.options.normal)) is None:
                raise UserError(f"{place}: task {task.id}: unknown label {choice!r:.60}. {REMEDY}.")
            said.append(found)
        marked = self._anomalous(answer)
        said += [(1, label) for label in marked]
        if len({label for label, _ in said}) > 1:
            raise _two_labels(place, task)
        if said:
            return next((each for each in said if each[1]), said[0])
        return (0, "") if asked is None else None

    def _anomalous(self, answer: Annotation) -> list[str]:
        """The label of each region that is an anomaly, "" if it has none."""
        normal = {folded(name) for name in self.options.normal}
        return [label for region in answer.regions if folded(label := label_of(region)) not in normal]

    def _file(self, place: str, task: Task) -> str:
        """The name of a task's image: a URL, or a path relative to the export or absolute."""
        column = self.options.column("file")
        texts = {name: value for name, value in task.data.items() if isinstance(value, str)}
        pictures = [name for name, value in texts.items() if _path_of(value).suffix.lower() in IMAGE_SUFFIXES]
        name = next((name for name in (column, "image", *pictures) if name in texts), None)
        if name is None:
            raise UserError(
                f"{place}: task {task.id} has no image, but {listed(list(task.data)) or 'nothing'}. {EXPORT}, or "
                "name its field with --columns file=FIELD."
            )
        text = texts[name]
        if is_url(place) or (is_url(text) and not _SERVED.match(text)):
            return text
        home = self.dataset.parent
        path = _path_of(text)
        found = (str(each) for each in _candidates(path) if (home / each).is_file())
        return next(found, None) or self._below(path) or (text if is_url(text) else str(path))

    def _is_lost(self, file: str) -> bool:
        """Whether an image that Label Studio served is nowhere to be found."""
        if is_url(address(self.dataset)):
            return False
        return bool(_SERVED.match(file)) or not (is_url(file) or (self.dataset.parent / file).is_file())

    def _below(self, path: PurePosixPath) -> str | None:
        """Of an upload: the one picture below the export with its name; None if there is none, or several."""
        if _UPLOAD not in path.as_posix():
            return None  # the address names the picture's folder
        same = next(filter(None, (self._by_name.get(name) for name in _names(path))), [])
        return same[0] if len(same) == 1 else None

    @functools.cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """The pictures below the export, by name: paths relative to it; no masks, no overlays of predict."""
        found: dict[str, list[str]] = defaultdict(list)
        for file in find_images(self.dataset.parent, without=MASKS).images:
            if not file.with_suffix(".npy").exists():  # an overlay stands beside its raw map
                found[file.name].append(os.path.relpath(file, self.dataset.parent))
        return dict(found)


def _two_labels(place: str, task: Task) -> UserError:
    return UserError(f"{place}: task {task.id} has two labels for one picture, normal and anomalous. Keep one.")


def _path_of(text: str) -> PurePosixPath:
    """The path that an image's address in Label Studio stands for, without its host."""
    parts = urlsplit(text)
    served = parse_qs(parts.query).get("d") if parts.path.rstrip("/").endswith("/data/local-files") else None
    return PurePosixPath(served[0] if served else unquote(parts.path if is_url(text) else text))


def _candidates(path: PurePosixPath) -> Iterator[Path]:
    """Where a file may lie beside the export: its path, also without the first folders; the name it once had."""
    yield Path(path)
    parts = path.parts[1:] if path.is_absolute() else path.parts
    for start in range(len(parts)):
        yield Path(*parts[start:])
    for name in _names(path)[1:]:
        yield Path(name)


def _names(path: PurePosixPath) -> list[str]:
    """A file's name, and the one that it had before it was uploaded to Label Studio."""
    return list(dict.fromkeys((path.name, _LOADED.sub("", path.name, count=1))))
