"""What every test may use: the shared material where it lies beside the checkout, and a clean environment."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from on_postgres import NAME as ON_POSTGRES
from on_postgres import OnPostgres, left_to_sqlite
from openings import NAME as OPENINGS
from openings import Openings
from provider_schema import NAME as PROVIDER_SCHEMAS
from provider_schema import tally
from shaking import NAME as SHAKING
from shaking import Shaking
from slack_recorder import NAME, recorder_for

from storage.database import sqlite_file
from storage.redaction import Rules, install
from storage.store import Store

# Two workers on two cores: threads of linear algebra beside them would only wait for one another. Before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
ROOT = Path(__file__).parent.parent
LONGEST = (
    "test_crash.py",
    "test_qlora.py",
    "test_bad_input.py",
    "test_local_model.py",
    "test_story.py",
    "test_browser_story.py",
    "test_starter.py",
    "test_local_engine.py",
    "test_router_value.py",
    "test_local_worker.py",
    "test_slack_faults.py",
    "test_duels.py",
)
"""Files that take longest go first, so that no core is idle at the end while another one works at them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which database the product uses where a test does not say."""
    parser.addoption("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.addoption("--shake", type=int, metavar="SEED", help="databases, calls and events dawdle")


def pytest_configure(config: pytest.Config) -> None:
    """Every request to a local workspace or a provider, and every answer, is held to the vendor's schemas, in all tests."""
    config.pluginmanager.register(recorder_for(), NAME)
    config.pluginmanager.register(tally, PROVIDER_SCHEMAS)
    config.pluginmanager.register(Openings(config), OPENINGS)
    if (seed := config.getoption("--shake")) is not None:
        config.pluginmanager.register(Shaking(seed), SHAKING)
    if config.getoption("--database") == "postgresql":
        config.pluginmanager.register(OnPostgres(config), ON_POSTGRES)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files first; `make test` tells xdist to keep this order."""
    if config.getoption("--database") == "postgresql":
        left = left_to_sqlite(config, items)
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


@pytest.fixture(autouse=True, scope="session")
def _migrated_once(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """A new store begins as a copy of one that was migrated; what migrations do is tested in test_migrations."""
    openings = request.config.pluginmanager.get_plugin(OPENINGS)
    assert isinstance(openings, Openings)
    on_postgres = request.config.pluginmanager.get_plugin(ON_POSTGRES)
    if isinstance(on_postgres, OnPostgres):
        on_postgres.begin()
        openings.begin()
        yield
        return
    template = tmp_path_factory.mktemp("template") / "migrated.sqlite"

    async def make() -> None:
        await (await Store.open(f"sqlite:///{template}")).close()

    asyncio.run(make())
    openings.begin()
    in_full = Store.open.__func__  # type: ignore[attr-defined]

    async def open_(cls: type[Store], url: str) -> Store:
        file = sqlite_file(url) if url.startswith("sqlite") else None
        if file is not None and file.parent.is_dir() and not file.exists():
            shutil.copyfile(template, file)
        opened: Store = await in_full(cls, url)
        return opened

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "open", classmethod(open_))
        yield


@pytest.fixture(autouse=True, scope="session")
def _quiet_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No proxy, no hub, one thread: tests talk to loopback only and share two cores.

    Nobody there speaks TLS, and reading a whole bundle of certificates for each client is half of what a short test costs.
    """
    saved = dict(os.environ)
    for name in PROXIES:
        os.environ.pop(name, None)
    one = tmp_path_factory.mktemp("certificates") / "one.pem"
    one.write_text(_first_certificate(), encoding="ascii")
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ["SSL_CERT_FILE"] = str(one)
    yield
    os.environ.clear()
    os.environ.update(saved)


def _first_certificate() -> str:
    import certifi

    bundle, end = (
        Path(certifi.where()).read_text(encoding="ascii", errors="ignore"),
        "-----END CERTIFICATE-----",
    )
    return bundle[bundle.index("-----BEGIN") : bundle.index(end)] + f"{end}\n"


@pytest.fixture(autouse=True)
def _rules_as_before() -> Iterator[None]:
    """A bot installs its rules and the names of its workspace for the whole process; the next test begins without."""
    yield
    install(Rules())


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The team's shared material; a stranger's clone has none and skips."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared material is not beside this checkout")
    return folder


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A fresh store."""
    opened = await Store.open(f"sqlite:///{tmp_path / 'apprentice.sqlite'}")
    yield opened
    await opened.close()
