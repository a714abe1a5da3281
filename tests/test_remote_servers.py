"""The local model on servers that nobody here wrote: `transformers serve`, and vLLM where it is installed."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bot.errors import ModelUnavailable, PublicError, TooLongFor
from bot.models.remote import RemoteEngine
from bot.settings import STARTER, child_environment
from storage.values import Message

if TYPE_CHECKING:
    from tiny_models import Parrots

START_S = 240


def asks(words: str) -> list[Message]:
    return [Message("user", words)]


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


@contextlib.contextmanager
def running(command: Sequence[str], url: str, log: Path, **environment: str) -> Iterator[str]:
    """The server in a process group of its own, from when it is healthy until the end of the test."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**child_environment(), "HF_HUB_OFFLINE": "1", **environment},
        )
        try:
            asyncio.run(_healthy(process, url, log))
            yield url
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)


async def _healthy(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    def there() -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
        return False

    async with asyncio.timeout(START_S):
        while not await asyncio.to_thread(there):
            assert process.poll() is None, f"the server ended, see {log}"
            await asyncio.sleep(0.2)


@pytest.fixture(scope="module")
def transformers_serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The starter behind Hugging Face's own server."""
    if find_spec("uvicorn") is None or find_spec("fastapi") is None:
        pytest.skip("transformers serve needs fastapi and uvicorn: pip install -e '.[dev]'")
    folder, port = tmp_path_factory.mktemp("serve"), free_port()
    (folder / "hub").mkdir()  # it lists the hub's cache, and fails where there is none
    program = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
    place = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    command = [sys.executable, "-c", program, "serve", str(STARTER), *place]
    with running(
        command, f"http://127.0.0.1:{port}", folder / "log", HF_HOME=str(folder), OMP_NUM_THREADS="1"
    ) as url:
        yield url


@pytest.mark.timeout(300)
async def test_transformers_serve_answers_and_its_limits_are_told(
    transformers_serve: str, tmp_path: Path
) -> None:
    """Another server than vLLM: no log-probabilities, no counting, no adapters; answers are whole, counted and stoppable."""
    engine = RemoteEngine(url=transformers_serve, model=str(STARTER), label="starter", max_new_tokens=40)
    pieces: list[str] = []

    async def keep(piece: str) -> None:
        pieces.append(piece)

    question = asks("How do I rate an answer?")
    first = await engine.answer(question, version_id=None, on_text=keep)
    assert first.text == "".join(pieces) != ""
    assert (first.kind, first.logprobs, first.margins) == ("local", (), ())
    assert first.tokens_in > 5
    assert 1 < first.tokens_out <= 40
    together = await asyncio.gather(*(engine.answer(question, version_id=None) for _ in range(3)))
    assert {each.text for each in together} == {first.text}
    short = await engine.answer(question, version_id=None, max_new_tokens=2)
    assert (short.finish, short.tokens_out) == ("length", 2)
    assert first.text.startswith(short.text)
    with pytest.raises(PublicError, match=r"loads no adapters while it runs.*--enable-lora"):
        await engine.load("v1", tmp_path)
    with pytest.raises(PublicError, match="loads no adapters while it runs"):
        await engine.check()
    await engine.stop()
    other = RemoteEngine(url=transformers_serve, model="owl", label="owl")
    with pytest.raises(ModelUnavailable, match="requested 'owl'"):
        await other.answer(question, version_id=None)
    await other.stop()


@pytest.fixture(scope="module")
def parrots(tmp_path_factory: pytest.TempPathFactory) -> "Parrots":
    """Wide enough for vLLM's attention, which takes heads of 32 and more."""
    if shutil.which("vllm") is None:
        pytest.skip("no vllm on the PATH: this test needs vLLM 0.33 or newer (deploy/vllm.md)")
    from tiny_models import build_parrots  # with torch, which nobody else needs here

    return build_parrots(tmp_path_factory.mktemp("parrots"), width=128)


@pytest.fixture(scope="module")
def vllm(parrots: "Parrots", tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM with the flags of deploy/vllm.md."""
    port = free_port()
    flags = (
        "--enable-lora --max-lora-rank 16 --max-loras 2 --max-model-len 1024 --dtype float32 --enforce-eager"
    )
    place = [
        "--served-model-name",
        "parrot",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--api-key",
        "k-right",
    ]
    environment = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }
    command = ["vllm", "serve", str(parrots.base), *place, *flags.split()]
    log = tmp_path_factory.mktemp("vllm") / "log"
    with running(command, f"http://127.0.0.1:{port}", log, **environment) as url:
        yield url


@pytest.mark.timeout(600)
async def test_vllm_serves_base_and_versions_side_by_side(
    vllm: str, parrots: "Parrots", tmp_path: Path
) -> None:
    """What the stand-in imitates. vLLM before 0.33 fails here on a processor: it gives the base's rows an adapter."""
    from tiny_models import BASE_SAYS, COLD_SAYS, GREETING, PLACE, WARM_SAYS, make_adapter

    engine = RemoteEngine(url=vllm, model="parrot", label="parrot", key="k-right", max_new_tokens=60)
    assert "answers as parrot, reads 1,024 tokens" in await engine.check()
    says = {None: BASE_SAYS, "v1": WARM_SAYS, "v2": COLD_SAYS}
    await engine.load("v1", parrots.warm)
    await engine.load("v2", parrots.cold)
    await engine.load("v1", parrots.warm)
    jobs = [(version, words) for version in says for words in (GREETING, PLACE)] * 4
    answers = await asyncio.gather(
        *(engine.answer(asks(words), version_id=version) for version, words in jobs)
    )
    assert [each.text for each in answers] == [says[version][words] for version, words in jobs]
    for each in answers:
        assert (each.finish, len(each.logprobs), len(each.margins)) == (
            "stop",
            each.tokens_out,
            each.tokens_out,
        )
        assert min(each.margins) > 0
    await engine.load("v1", parrots.cold)
    assert (await engine.answer(asks(PLACE), version_id="v1")).text == COLD_SAYS[PLACE]
    await engine._server.unload_adapter("v2")  # as a restart would
    assert (await engine.answer(asks(PLACE), version_id="v2")).text == COLD_SAYS[PLACE]
    with pytest.raises(PublicError, match=r"rank 32.*--max-lora-rank 32"):
        await engine.load("v3", make_adapter(parrots.base, tmp_path / "big", rank=32))
    with pytest.raises(PublicError, match=r"finds no adapter at.*LOCAL_ADAPTERS_PATH"):
        await engine.load("v3", tmp_path / "nowhere")
    with pytest.raises(TooLongFor, match="tokens; this model can read"):
        await engine.answer(asks("ä" * 5000), version_id=None)
    long = [Message("user", "x" * 700), Message("assistant", "y" * 700), *asks(PLACE)]
    assert (await engine.answer(long, version_id="v2")).text == COLD_SAYS[PLACE]
    await engine.stop()
