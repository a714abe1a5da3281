"""A real Ray cluster of two nodes on this machine: the bot's own order, by the Jobs API, trains one model on two workers."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="ray is not installed (the extra [ray])")
pytest.importorskip("torch", reason="the extra [local] is not installed")

from test_qlora import ROOT, events, order, result_of, tiny

from storage.errors import PublicError
from training import qlora, rundir
from training.finetuners import Broken, Done, Order, Pending
from training.finetuners.ray import Cluster, RayFineTuner
from training.rundir import Event

__all__ = ["tiny"]

pytestmark = [pytest.mark.ray, pytest.mark.training, pytest.mark.timeout(300)]

TWO_NODES = """
import sys
from ray.cluster_utils import Cluster
head = {"num_cpus": 1, "include_dashboard": True, "dashboard_port": int(sys.argv[1])}
cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=True)
cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
print("ready", flush=True)
sys.stdin.read()
cluster.shutdown()
"""
"""A node has one processor, so that two workers of one each cannot be on the same."""
TOKEN = "token-of-the-two-nodes-of-a-test"
CHOICES = {"epochs": 2.0, "batch_size": 8, "learning_rate": 3e-3, "quantization": "none"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of its Jobs API, which wants TOKEN. It ends when its standard input does."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets lie there: their paths must be short
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    settings = {
        "RAY_TMPDIR": folder,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
    }
    with (Path(folder) / "nodes.log").open("wb") as log:
        nodes = subprocess.Popen(
            [sys.executable, "-c", TWO_NODES, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**kept, **settings, "PYTHONPATH": str(ROOT)},
        )
    assert nodes.stdout is not None
    said = nodes.stdout.readline().decode()
    try:
        assert said == "ready\n", (Path(folder) / "nodes.log").read_text()[-3000:]
        yield f"http://127.0.0.1:{port}"
    finally:
        nodes.communicate(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


async def reachable(tuner: RayFineTuner) -> str:
    """Its version; the dashboard begins to listen a little after the nodes are there."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return await tuner.version()
        except Exception:
            assert time.monotonic() < deadline, "the Jobs API did not come up"
            await asyncio.sleep(0.2)


async def test_two_nodes_train_one_model_and_it_comes_home(cluster: str, tmp_path: Path, tiny: Path) -> None:
    """What two workers on two nodes learn is what one process learns; the first one alone writes; nothing stays there."""
    alone = order(tmp_path / "alone" / "run", tiny, **CHOICES)
    assert qlora.main([str(alone)]) == rundir.EXIT_DONE

    shared, home = tmp_path / "shared", tmp_path / "home"
    shared.mkdir()
    terms = Cluster(
        address=cluster, token=TOKEN, storage=shared, workers=2, python=sys.executable, look_every_s=0.2
    )
    tuner = RayFineTuner(terms, home=home)
    assert (await reachable(tuner)).startswith("2.")
    stranger = RayFineTuner(Cluster(address=cluster, token="wrong", storage=shared), home=home)
    with pytest.raises(PublicError, match="does not accept RAY_TOKEN"):
        await stranger.version()
    await stranger.close()

    asked = {"epochs": 2.0, "batch_size": 8, "learning_rate": 3e-3}
    wanted = Order("run_1", home / "run_1", str(tiny), alone / "data", "sha-of-facts", "none", **asked)  # type: ignore[arg-type]
    assert await tuner.find(wanted) == ""
    handle = await tuner.launch(wanted)
    assert await tuner.launch(wanted) == handle == await tuner.find(wanted)
    found: Pending | Done | Broken = Pending()
    while isinstance(found, Pending):
        await asyncio.sleep(0.2)
        found = await tuner.poll(handle)
    assert isinstance(found, Done), found
    await tuner.close()

    one, two = result_of(alone), result_of(home / "run_1")
    assert found.adapter == home / "run_1" / "adapter"
    assert (found.adapter / "adapter_model.safetensors").stat().st_size > 0
    assert two.steps == one.steps == 4
    assert two.eval_loss == pytest.approx(one.eval_loss, rel=1e-3)
    assert two.train_loss == pytest.approx(one.train_loss, rel=1e-3)
    for event in (Event.STARTED, Event.FINISHED):
        assert len(events(home / "run_1", event)) == 1
    assert [each.name for each in shared.iterdir()] == [
        ".cpu.lock"
    ]  # one training at a time, as on one machine
    assert await RayFineTuner(terms, home=home).find(wanted) == handle
