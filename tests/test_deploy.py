"""The files of deploy/: they agree with the service, with each other and with the versions tested together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import leanet
from leanet.cli import parse
from leanet.config import ServeConfig

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
USER = 10001


def compose() -> dict[str, Any]:
    file = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = file["services"]["leanet"]
    return found


def pod() -> dict[str, Any]:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = next(one for one in documents if one["kind"] == "Deployment")["spec"]["template"][
        "spec"
    ]
    return found


def entrypoint() -> list[str]:
    found = re.search(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.M)
    assert found
    entry: list[str] = yaml.safe_load(found[1])
    return entry


@pytest.mark.parametrize(
    "arguments", [compose()["command"], pod()["containers"][0]["args"]], ids=["compose", "pod"]
)
def test_the_command_is_one_of_ours_and_has_time_to_end(arguments: list[str]) -> None:
    program, verb, *options = entrypoint()
    config = parse(verb, [*options, *arguments])
    assert program == "leanet"
    assert isinstance(config, ServeConfig)
    assert config.host == "0.0.0.0"
    graces = int(compose()["stop_grace_period"].removesuffix("s")), pod()["terminationGracePeriodSeconds"]
    assert min(graces) >= config.timeout + 5 + 5  # preStop or init, the answers, uvicorn's own end


def test_nobody_is_root_and_nothing_is_written_but_below_tmp() -> None:
    (container,) = pod()["containers"]
    assert f"USER {USER}:{USER}" in DOCKERFILE
    assert compose()["user"] == f"{USER}:{USER}"
    assert pod()["securityContext"]["runAsUser"] == USER
    assert pod()["securityContext"]["runAsNonRoot"]
    assert compose()["read_only"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert compose()["tmpfs"][0].startswith("/tmp:")
    assert [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")] == ["/tmp"]


def test_what_asks_for_the_state_asks_for_what_there_is() -> None:
    (container,) = pod()["containers"]
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/ready", "readiness": "/ready", "liveness": "/health"}
    port = container["ports"][0]["containerPort"]
    assert f"EXPOSE {port}\n" in DOCKERFILE
    assert f"127.0.0.1:{port}/health" in DOCKERFILE
    assert f"127.0.0.1:{port}/ready" in compose()["healthcheck"]["test"][-1]
    assert port == ServeConfig(Path("m")).port


def test_the_images_have_this_version() -> None:
    assert compose()["image"].endswith(f":{leanet.__version__}")
    assert pod()["containers"][0]["image"].endswith(f":{leanet.__version__}")


def test_everything_installed_has_a_tested_version_and_torch_is_not() -> None:
    lines = (DEPLOY / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = {line.lower() for line in lines if not line.startswith("#")}
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    assert wanted <= {line.partition("==")[0] for line in pinned.splitlines()}
    assert not wanted & {"torch", "torchvision", "timm"}
