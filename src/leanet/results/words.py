"""The terms of tables and pages, each explained in a line."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

from leanet.results.metrics import PRINTED
from leanet.results.rows import Row

_log = logging.getLogger(__name__)

GLOSSARY = {
    "fold": "one of the parts of the data set; it tests networks that were trained on the other parts",
    "ADN": "anomaly detection network: it classifies the image; its probability is the prediction",
    "CAAN": "color anomaly attention network: it reads the anomaly map and guides the ADN's attention; "
    "its row is its own prediction",
    "p1 to p5": "attention point, the depth of the ADN at which the attention acts; 1 is the finest",
    "ΔE00": "CIEDE2000 color difference: 1 is about the least visible difference; the anomaly map holds, for each "
    "pixel, the difference between the true color and the colorizer's (ΔE for short)",
    "F1": "harmonic mean of precision (the share of the alarms that are right) and recall (the share of the "
    "anomalous images that are found); 1 is perfect",
    "threshold chosen": "the probability from which an image is called anomalous, chosen on held-out training "
    "images; for ΔE and colors, on the training images",
    "AUROC": "how often an anomalous image gets a higher probability than a normal one; 0.5 is guessing",
    "average precision": "mean precision over all thresholds, weighted by recall steps; guessing gets the share of "
    "anomalous images",
    "[95 % interval]": "confidence interval of the mean over folds; wide with few folds",
}
"""Term -> explanation, in the tables' order."""


def heading(metric: str) -> str:
    """The explanation of a column of `PRINTED`."""
    title = PRINTED[metric]
    return "; ".join(f"{term}: {text}" for term, text in GLOSSARY.items() if term in title)


@functools.cache
def explain(*terms: str) -> None:
    """Log the explanation of some terms, before their first use; a repeated call logs nothing."""
    for term in terms:
        _log.info(f"{term}: {GLOSSARY[term]}", extra={"hanging": 2})


def words_of(rows: Sequence[Row]) -> dict[str, str]:
    """The terms that a table of these rows uses, with their explanations."""
    text = " ".join(row.name for row in rows)
    needed = {
        "CAAN": "CAAN" in text,
        "p1 to p5": "-p" in text,
        "ΔE00": "ΔE" in text,
        "threshold chosen": any(row.has_chosen for row in rows),
    }
    return {term: explained for term, explained in GLOSSARY.items() if needed.get(term, True)}
