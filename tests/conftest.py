"""What every test may use: the shared material where it lies beside the checkout, and a clean environment."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from slack_recorder import NAME, recorder_for

from storage.store import Store

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
ROOT = Path(__file__).parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """Every request to a local workspace and every answer is held to Slack's schemas, in all tests."""
    config.pluginmanager.register(recorder_for(), NAME)


@pytest.fixture(autouse=True, scope="session")
def _quiet_environment() -> Iterator[None]:
    """No proxy, no hub, one thread: tests talk to loopback only and share two cores."""
    saved = dict(os.environ)
    for name in PROXIES:
        os.environ.pop(name, None)
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    yield
    os.environ.clear()
    os.environ.update(saved)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The team's shared material; a stranger's clone has none and skips."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared material is not beside this checkout")
    return folder


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A fresh store on SQLite."""
    opened = await Store.open(f"sqlite:///{tmp_path / 'apprentice.sqlite'}")
    yield opened
    await opened.close()
