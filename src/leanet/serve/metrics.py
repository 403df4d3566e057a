"""The service's numbers for Prometheus, summed over its processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the folder where several processes keep their numbers.

prometheus_client reads it when it is imported.
"""

REFUSED = (408, 413, 429, 503)
"""Statuses of requests that the service turned away: too slow, too large, too many, or no answer in time."""

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16)


class Metrics:
    """What the service counts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "leanet_requests", "Requests answered.", ("route", "method", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "leanet_request_seconds",
            "Seconds from a request's header to the end of its answer.",
            ("route",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._refused = Counter("leanet_refused", "Requests refused.", ("status",), registry=self._registry)
        self._queue = Gauge(
            "leanet_queue_images",
            "Images that were received and not yet answered.",
            multiprocess_mode="livesum",
            registry=self._registry,
        )
        self._batch = Histogram(
            "leanet_batch_images", "Images in a batch.", ("model",), buckets=IMAGES, registry=self._registry
        )
        for status in REFUSED:  # a series that begins at 0 shows its first increase
            self._refused.labels(status)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request; `route` is the path's pattern, because paths are the client's choice."""
        self._requests.labels(route, method, status).inc()
        self._seconds.labels(route).observe(seconds)
        if status in REFUSED:
            self._refused.labels(status).inc()

    @contextmanager
    def queued(self, images: int) -> Iterator[None]:
        """Count images as waiting within a context."""
        self._queue.inc(images)
        try:
            yield
        finally:
            self._queue.dec(images)

    def batch(self, model: str, images: int) -> None:
        """Count a batch."""
        self._batch.labels(model).observe(images)

    def text(self) -> bytes:
        """All numbers in Prometheus' text format; of all processes, if there are several."""
        registry = self._registry
        if folder := os.environ.get(FOLDER):
            registry = CollectorRegistry()
            MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
