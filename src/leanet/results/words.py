"""The words of tables and pages, each explained in a line."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

from leanet.results.metrics import PRINTED, Row

_log = logging.getLogger(__name__)

GLOSSARY = {
    "fold": "one of the parts that the pictures are cut into; networks trained on the others test it",
    "ADN": "anomaly detection network: it classifies the picture, and its probability is the answer",
    "CAAN": "color anomaly attention network: it reads the anomaly map and directs the ADN's attention; "
    "its row is what it says by itself",
    "p1 to p5": "attention point, the depth of the ADN at which the attention acts; 1 is the finest",
    "ΔE00": "CIEDE2000 color difference: 1 is about the least that an eye sees; the anomaly map holds, for each "
    "pixel, that between the true color and the one that the colorizer expects (ΔE for short)",
    "F1": "harmonic mean of precision (how many of the alarms are right) and recall (how many of the anomalous "
    "pictures are found); 1 is perfect",
    "threshold chosen": "the probability from which a picture is called anomalous, chosen on pictures held out of "
    "the training; of ΔE and of colors, on the training pictures",
    "AUROC": "how often an anomalous picture gets a higher probability than a normal one; 0.5 is guessing",
    "average precision": "mean precision over all thresholds, by recall; guessing gets the share of anomalous "
    "pictures",
    "[95 % interval]": "where the mean of other folds would lie; wide with few folds",
}
"""Term -> explanation, in the order in which tables need them."""


def heading(metric: str) -> str:
    """The explanation of a column of `PRINTED`."""
    title = PRINTED[metric]
    return "; ".join(f"{term}: {text}" for term, text in GLOSSARY.items() if term in title)


@functools.cache
def explain(*terms: str) -> None:
    """Log what some words mean, where they stand first; a second call for the same ones logs nothing."""
    for term in terms:
        _log.info(f"{term}: {GLOSSARY[term]}", extra={"hanging": 2})


def words_of(rows: Sequence[Row]) -> dict[str, str]:
    """The words that a table of these rows needs, with their explanations."""
    text = " ".join(row.name for row in rows)
    needed = {
        "CAAN": "CAAN" in text,
        "p1 to p5": "-p" in text,
        "threshold chosen": any(row.has_chosen for row in rows),
    }
    return {term: explained for term, explained in GLOSSARY.items() if needed.get(term, True)}
