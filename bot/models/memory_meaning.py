"""Which verified questions mean nearly the same, by the embeddings of a model that the operator names. Off by default.

The vectors are asked of an OpenAI-compatible /v1/embeddings API and kept in the database; a USearch index in the data
directory, derived from them, finds the nearest. Where the API, the budget or the index fails, memory goes on with words.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import structlog

from bot.errors import ModelUnavailable
from bot.models import Call, Meter
from bot.models.bills import most_tokens
from bot.models.prices import Prices
from storage.entries import EntriesStamp, Vector
from storage.store import Store
from storage.values import Bill

KIND = "openai"
OPENAI_URL = "https://api.openai.com/v1"
_BATCH = 100
_LONGEST = 8_000  # characters
_NEAREST = 32
_QUESTION_S = 3.0
_REST_S = 60.0
_SAVE_EVERY = 50_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """The model that the operator named, and where it is."""

    name: str
    base_url: str
    api_key: str = ""
    timeout_s: float = 60.0


class Embedder:
    """Asks the API for vectors of length 1."""

    def __init__(self, model: EmbeddingModel, prices: Prices) -> None:
        self.model = model
        self._prices = prices
        self._session: aiohttp.ClientSession | None = None

    async def vectors(self, texts: Sequence[str], *, meter: Meter | None, timeout_s: float) -> Any:
        """One row for each text, as 16-bit floats. Raises ModelUnavailable where the API or the budget does not allow it."""
        texts = [text[:_LONGEST] or " " for text in texts]
        most = sum(most_tokens(text) for text in texts)
        if meter is None:
            return (await self._asked(texts, timeout_s))[0]
        await meter.before(Call(KIND, self.model.name, most, 0))
        bill = self._bill(most, estimated=True)
        try:
            found, tokens = await self._asked(texts, timeout_s)
            bill = self._bill(tokens if tokens is not None else most, estimated=tokens is None)
            return found
        except _Refused:
            bill = Bill(KIND, self.model.name, cost_usd=0.0)
            raise
        finally:
            meter.bill(bill)

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _asked(self, texts: Sequence[str], timeout_s: float) -> tuple[Any, int | None]:
        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=True)
        headers = {"Authorization": f"Bearer {self.model.api_key}"} if self.model.api_key else {}
        body = {"model": self.model.name, "input": list(texts), "encoding_format": "float"}
        url = f"{self.model.base_url.rstrip('/')}/embeddings"
        limit = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._session.post(url, json=body, headers=headers, timeout=limit) as response:
                if response.status != 200:
                    raise _refusal(response.status, (await response.text())[:200])
                told = await response.json()
        except aiohttp.ClientConnectorError as error:
            raise _Refused(f"{url} cannot be reached ({error})") from None
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ModelUnavailable(f"{url} failed ({type(error).__name__}: {error})") from None
        return _unit_rows(told, len(texts)), _tokens(told)

    def _bill(self, tokens: int, *, estimated: bool) -> Bill:
        name = self.model.name
        return Bill(
            KIND,
            name,
            tokens_in=tokens,
            cost_usd=self._prices.cost(name, tokens, 0, 0),
            price_version=self._prices.version(name),
            estimated=estimated,
        )


class _Refused(ModelUnavailable):
    """The API certainly did no work."""


def _refusal(status: int, said: str) -> ModelUnavailable:
    kind = _Refused if status < 500 else ModelUnavailable
    return kind(f"the embeddings API answered {status}: {said}")


def _unit_rows(told: Any, count: int) -> Any:
    import numpy as np

    try:
        rows = sorted(told["data"], key=lambda row: row["index"])
        found = np.asarray([row["embedding"] for row in rows], dtype=np.float32)
    except (TypeError, KeyError, ValueError) as error:
        raise ModelUnavailable(f"the embeddings API answered something else ({error!r})") from None
    if found.ndim != 2 or found.shape[0] != count or not found.size or not np.isfinite(found).all():
        raise ModelUnavailable(f"the embeddings API answered {found.shape} numbers for {count} texts")
    return (found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)).astype(np.float16)


def _tokens(told: Any) -> int | None:
    try:
        return int(told["usage"]["prompt_tokens"])
    except (TypeError, KeyError, ValueError):
        return None


class VectorIndex:
    """USearch over the vectors of one model, and up to which of them it goes. About 1 kB of RAM for each at 384 numbers.

    Reading is safe while another thread adds.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index: Any = None
        self.number = -1
        self.erased = 0

    def load(self, model: str) -> None:
        """Take over what was saved for this model; nothing where it is missing or damaged."""
        try:
            from usearch.index import Index

            saved = json.loads((self._folder / "vectors.json").read_text(encoding="utf-8"))
            if saved["model"] == model:
                index = Index.restore(str(self._folder / saved["file"]), view=False)
                if index is not None and len(index) == saved["entries"]:
                    self._index, self.number, self.erased = index, saved["number"], saved["erased"]
        except FileNotFoundError:
            return
        except Exception as error:  # USearch raises RuntimeError and whatever the file makes it
            log.warning("the index of embeddings cannot be used and is built anew", why=str(error))

    def clear(self) -> None:
        """Know nothing, here and in the files, so that no vector of a deleted entry stays."""
        self._index, self.number = None, -1
        for file in (self._folder / "vectors.json", *self._folder.glob("vectors-*")):
            file.unlink(missing_ok=True)

    def add(self, vectors: Sequence[Vector]) -> None:
        """Know these, too. Raises ModelUnavailable where they have another length than those before."""
        import numpy as np

        rows = np.stack([np.frombuffer(each.vector, dtype=np.float16) for each in vectors])
        if self._index is None:
            from usearch.index import Index

            self._index = Index(ndim=rows.shape[1], metric="cos", dtype="f16")
        keys = np.asarray([each.number for each in vectors], dtype=np.uint64)
        self._index.add(keys, rows, threads=1)
        self.number = vectors[-1].number

    def save(self, model: str) -> None:
        """Write it beside the old one, then let it count."""
        if self._index is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        file = f"vectors-{self.number}-{self.erased}.usearch"
        draft = self._folder / f"{file}.new"
        self._index.save(str(draft))
        draft.replace(self._folder / file)
        known = {"model": model, "number": self.number, "erased": self.erased, "entries": len(self._index)}
        marker = self._folder / "vectors.json.new"
        marker.write_text(json.dumps({**known, "file": file}), encoding="utf-8")
        marker.replace(self._folder / "vectors.json")
        for old in self._folder.glob("vectors-*"):
            if old.name != file:
                old.unlink(missing_ok=True)

    def near(self, vector: Any, count: int) -> dict[int, float]:
        """Number of a vector -> cosine of the angle to this one, of the nearest."""
        if self._index is None or self._index.ndim != vector.shape[0]:
            return {}
        found = self._index.search(vector, count, threads=1)
        return {int(key): 1 - float(far) for key, far in zip(found.keys, found.distances, strict=True)}


class Meaning:
    """Vectors for all entries, made in the background, and the entries nearest to a question."""

    def __init__(
        self, store: Store, embedder: Embedder, *, team: str, folder: Path, meter: Meter | None = None
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._team = team
        self._meter = meter
        self._index = VectorIndex(folder)
        self._work: asyncio.Task[None] | None = None
        self._loaded = False
        self._done: EntriesStamp | None = None
        self._rests_until = 0.0

    def refresh(self, stamp: EntriesStamp) -> None:
        """Begin to take over what changed, if anything did."""
        if self._done != stamp and (self._work is None or self._work.done()) and not self._resting:
            self._work = asyncio.create_task(self._follow(stamp))

    async def finished(self) -> None:
        """Wait until everything that `refresh` began is done."""
        if self._work is not None:
            await asyncio.wait({self._work})

    async def close(self) -> None:
        """Stop what goes on."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        await self._embedder.close()

    async def near(self, question: str, *, meter: Meter | None) -> dict[str, float]:
        """Entry id -> how near its question is in meaning (cosine), of the nearest; empty where that cannot be told now."""
        if self._index.number < 0 or self._resting:
            return {}
        try:
            rows = await self._embedder.vectors([question], meter=meter, timeout_s=_QUESTION_S)
        except ModelUnavailable as error:
            self._rest(error)
            return {}
        found = await asyncio.to_thread(self._index.near, rows[0], _NEAREST)
        owners = await self._store.vector_owners(list(found))
        return {entry_id: found[number] for entry_id, number in owners.items()}

    @property
    def _resting(self) -> bool:
        return time.monotonic() < self._rests_until

    def _rest(self, error: Exception) -> None:
        self._rests_until = time.monotonic() + _REST_S
        log.warning("no embeddings for a while: memory goes by words alone", why=str(error))

    async def _follow(self, stamp: EntriesStamp) -> None:
        try:
            await self._read_kept(stamp)
            await self._embed()
            await self._read_kept(stamp)
            self._done = stamp
        except ModelUnavailable as error:
            self._rest(error)
        except Exception as error:  # nobody waits for this task; words alone go on
            self._rest(error)

    async def _embed(self) -> None:
        model = self._embedder.model
        while entries := await self._store.entries_without_vector(self._team, model.name, limit=_BATCH):
            texts = [question for _, question in entries]
            rows = await self._embedder.vectors(texts, meter=self._meter, timeout_s=model.timeout_s)
            kept = [
                (entry_id, rows.shape[1], row.tobytes())
                for (entry_id, _), row in zip(entries, rows, strict=True)
            ]
            await self._store.keep_vectors(self._team, model.name, kept)

    async def _read_kept(self, stamp: EntriesStamp) -> None:
        """Let the index know the vectors that are in the database."""
        model = self._embedder.model.name
        if not self._loaded:
            await asyncio.to_thread(self._index.load, model)
            self._loaded = True
        if self._index.erased != stamp.erased:
            self._index.clear()
        self._index.erased = stamp.erased
        unsaved = 0
        async for page in self._store.vectors_since(self._team, model, self._index.number):
            await asyncio.to_thread(self._index.add, page)
            unsaved += len(page)
            if unsaved >= _SAVE_EVERY:
                await asyncio.to_thread(self._index.save, model)
                unsaved = 0
        if unsaved:
            await asyncio.to_thread(self._index.save, model)
