"""Ray: a cluster of several nodes on this machine, one of which dies, writes what one process writes."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import train
from same_files import assert_same_files
from threadpoolctl import threadpool_limits

from leanet.cli import main, parse
from leanet.cluster import Share, check_nodes, complaint, connect
from leanet.errors import UserError
from leanet.experiment.fit import fit
from leanet.experiment.study import study

ray: Any = pytest.importorskip("ray")

OPTIONS = ["--image-size", "64", "--n-splits", "2", "--device", "cpu"]
TRAINED = ["--adn", "CNN", "--caan", "MobileNet", "--epochs", "1", "--colorizer-epochs", "1", "--no-compare"]

HERE = {"leanet": "0.2.0", "torch": "2.14.1"}


@pytest.mark.parametrize(
    ("unseen", "there", "said"),
    [
        ([], HERE, None),
        ([], {**HERE, "leanet": None}, 'leanet is not installed there.*pip install "leanet'),
        ([], {**HERE, "leanet": "0.1.0"}, "has leanet 0.1.0, and this machine 0.2.0"),
        ([], {**HERE, "torch": "2.9.0"}, "has torch 2.9.0, and this machine 2.14.1"),
        (["run"], HERE, "does not see run. Put --out and what the command reads where"),
    ],
)
def test_what_is_wrong_with_a_node_is_said(
    unseen: list[str], there: dict[str, str | None], said: str | None
) -> None:
    found = complaint(unseen, there, HERE)
    assert found is None if said is None else re.search(said, found or "")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ray://127.0.0.1:1", "--address ray://127.0.0.1:1: no cluster there .Connection refused."),
        ("127.0.0.1:1", "--address 127.0.0.1:1: no cluster there"),
        ("head", "--address head: expected auto, or ray://HOST:PORT"),
        ("http://head:8265", "--address http://head:8265: expected auto"),
        ("auto", "--address auto: no cluster .Could not find any running Ray instance.. Start one with `ray start"),
    ],
)
def test_no_cluster_at_the_address_is_one_line(
    address: str,
    said: str,
    leaves: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where 'auto' looks for the last cluster
    command = ["run", str(leaves), "--out", str(tmp_path / "run"), *OPTIONS, "--executor", "ray"]
    assert main([*command, "--address", address]) == 2
    error = capsys.readouterr().err
    assert re.search(said, error)
    assert error.count("\n") == 1


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head without cores, and a node with one."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))  # of the nodes; relative paths are the driver's
        made: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        made.add_node(num_cpus=1)
    connect(made.address)
    yield made
    ray.shutdown()
    made.shutdown()


def is_at_work(node: Any, run: Path) -> bool:
    """Whether a process that a node has started runs a task of this run."""
    raylets = {started.process.pid for started in node.all_processes["raylet"]}
    for lock in run.glob(".leanet-task-*"):
        with contextlib.suppress(OSError):  # the task has ended
            found = re.search(r"\(process (\d+) on", lock.read_text(errors="replace"))
            if found and _parent(int(found[1])) in raylets:
                return True
    return False


def _parent(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@pytest.mark.slow
def test_a_run_ends_with_the_same_bytes_when_a_node_is_killed(
    cluster: Any, leaves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["run", str(leaves), *OPTIONS, *TRAINED, "--out", "run"]
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    for folder in (alone, spread):
        folder.mkdir()
    monkeypatch.chdir(alone)
    with threadpool_limits(1):
        train(*command)
    node = cluster.add_node(num_cpus=1)
    killed = threading.Event()

    def kill() -> None:
        while not is_at_work(node, spread / "run"):
            time.sleep(0.005)
        cluster.remove_node(node, allow_graceful=False)
        killed.set()

    threading.Thread(target=kill, daemon=True).start()
    monkeypatch.chdir(spread)
    train(*command, "--executor", "ray")
    assert killed.is_set()
    assert_same_files(alone / "run", spread / "run")


@pytest.mark.slow
def test_a_study_writes_the_same_bytes(cluster: Any, leaves: Path, tmp_path: Path) -> None:  # noqa: ARG001
    grid = [str(leaves), *OPTIONS, "--tune", "head", "--adn", "EfficientNet-Lite0", "--p-rate", "0.5", "1"]
    grid += ["--seeds", "2"]
    for executor in ("local", "ray"):
        with threadpool_limits(1):
            study(parse("study", [*grid, "--executor", executor, "--out", str(tmp_path / executor)]))
    assert_same_files(tmp_path / "local", tmp_path / "ray")


@pytest.mark.slow
def test_a_fit_writes_the_same_model(cluster: Any, leaves: Path, tmp_path: Path) -> None:  # noqa: ARG001
    for executor in ("local", "ray"):
        with threadpool_limits(1):
            fit(parse("fit", [str(leaves), *OPTIONS, "--executor", executor, "--out", str(tmp_path / executor)]))
    made = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("local", "ray")]
    assert made[0] == made[1]
    assert {"model.json", "weights.safetensors"} < made[0].keys()


@pytest.mark.slow
def test_a_pool_has_the_same_answers_when_a_node_is_killed(
    cluster: Any, folder: Path, leaves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = sorted(leaves.rglob("*.png"))
    pq.write_table(
        pa.table({"file": [str(pictures[i % len(pictures)]) for i in range(400)]}), tmp_path / "p.parquet"
    )
    monkeypatch.chdir(tmp_path)
    command = ["predict", str(folder), "--manifest", "p.parquet", "--shard-rows", "20"]
    with threadpool_limits(1):
        assert main([*command, "--out", "local"]) == 0
    node = cluster.add_node(num_cpus=1)
    killed = threading.Event()

    def kill() -> None:
        while len(list(Path(tmp_path, "spread").glob("part-*"))) < 3:
            time.sleep(0.005)
        cluster.remove_node(node, allow_graceful=False)
        killed.set()

    threading.Thread(target=kill, daemon=True).start()
    assert main([*command, "--out", "spread", "--executor", "ray"]) == 0
    assert killed.is_set()
    local, spread = ({p.name: p.read_bytes() for p in Path(out).glob("part-*")} for out in ("local", "spread"))
    assert len(local) == 20
    assert spread == local


@pytest.mark.slow
def test_a_node_that_does_not_see_the_pictures_is_named(cluster: Any, folder: Path, tmp_path: Path) -> None:
    del cluster
    pq.write_table(pa.table({"file": ["a.png"]}), tmp_path / "p.parquet")
    command = [
        "predict",
        str(folder),
        "--manifest",
        str(tmp_path / "p.parquet"),
        "--out",
        str(tmp_path / "answers"),
    ]
    with pytest.raises(UserError, match=r"node .*: does not see .*gone. Put --out and what the command reads"):
        check_nodes(Share(1).nodes(), tmp_path, ["pyarrow"], [str(tmp_path / "gone")])
    assert main([*command, "--executor", "ray", "--num-cpus", "64"]) == 2


@pytest.mark.slow
def test_a_node_that_has_died_since_gets_no_task(cluster: Any, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1)
    nodes = Share(1).nodes()  # a node that another test killed may still be among them
    assert node.node_id in {found["NodeID"] for found in nodes}
    cluster.remove_node(node)
    check_nodes(nodes, tmp_path, ["pyarrow"])
    assert node.node_id not in {found["NodeID"] for found in Share(1).nodes()}


@pytest.mark.slow
def test_a_node_with_another_version_is_named(cluster: Any, leaves: Path, tmp_path: Path) -> None:
    (tmp_path / "old" / "leanet").mkdir(parents=True)
    (tmp_path / "old" / "leanet" / "__init__.py").write_text('__version__ = "0.0.9"\n')
    node = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(tmp_path / "old")})
    try:
        with pytest.raises(UserError, match=r"node .*: has leanet 0.0.9, and this machine"):
            train("run", str(leaves), "--out", str(tmp_path / "run"), *OPTIONS, "--executor", "ray")
    finally:
        cluster.remove_node(node)


@pytest.mark.slow
def test_more_than_any_node_has_is_refused(cluster: Any, leaves: Path, tmp_path: Path) -> None:  # noqa: ARG001
    command = ["run", str(leaves), "--out", str(tmp_path / "run"), *OPTIONS, "--executor", "ray"]
    with pytest.raises(UserError, match="no node has --num-cpus 64, --num-gpus 2 for a task"):
        train(*command, "--num-cpus", "64", "--num-gpus", "2")
