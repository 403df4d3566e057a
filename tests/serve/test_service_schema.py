"""The service does what its own description says, whatever is sent: requests made from the description."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import made
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from leanet.config import ServeConfig
from leanet.serve.service import make_app


def encoded(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "green").save(stream, kind)
    return stream.getvalue()


IMAGES = [encoded(kind) for kind in ("PNG", "JPEG", "WEBP", "BMP")]
schemathesis.openapi.media_type("image/*", st.sampled_from(IMAGES))
schemathesis.openapi.format("binary", st.sampled_from(IMAGES))


@pytest.mark.slow
@pytest.mark.parametrize("token", [None, "open sesame"])
def test_every_answer_is_one_that_is_described(token: str | None) -> None:
    app = make_app(made("CNN", "none", 1), ServeConfig(Path("m"), max_files=4), token)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    seen: dict[str, set[int]] = {}

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def ask(data: st.DataObject) -> None:
        case = data.draw(cases)
        response = case.call(headers=headers)
        case.validate_response(response, headers=headers)
        seen.setdefault(case.operation.label, set()).add(response.status_code)

    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        wrong_too = token is None and operation.method.upper() == "POST"  # the token is given in any case
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)[: 1 + wrong_too]:
            cases = operation.as_strategy(generation_mode=mode)
            ask()
    assert seen["GET /health"] == seen["GET /ready"] == seen["GET /metrics"] == seen["GET /v1/model"] == {200}
    assert seen["GET /v1/models/{name}"] <= {200, 404}
    assert {200} <= seen["POST /v1/predict"] <= {200, 400, 413, 422}
