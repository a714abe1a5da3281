"""The words of all verified questions, in a Tantivy index on disk: which entries may fit, and how rare a word is.

It holds ids and words and nothing else; the database has the entries. It is derived: missing, damaged or written by another
version it is built anew. Each build is a folder of its own, and the file `current`, replaced as a whole, says which one
counts and up to which change of the entries it goes, so that a reader in another process never sees half of a build.
"""

import fcntl
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from bot.models import memory_words
from storage.entries import EntriesStamp, Followed

FORMAT = 1
_CURRENT = "current"
_MOST_POSTINGS = 250_000
"""Words that stand in very many questions say little and cost much: the rarest are looked up until they stand in this many
entries together. Among a million made-up entries all words take 61 ms (p95) and these 8 ms; SQLite's FTS5 takes 4.2 s."""
_HEAP = 64_000_000
_SMALL_HEAP = 15_000_000

log = structlog.get_logger(__name__)


class IndexUnusable(Exception):
    """The index on disk cannot be read or written; says why."""


@dataclass(frozen=True, slots=True)
class Marker:
    """What `current` says: the build's folder, whose entries, up to which change and deletion, its files' checksums."""

    build: str
    store: str
    change: int
    erased: int
    token: str
    files: Mapping[str, int]
    format: int = FORMAT


@contextmanager
def understood() -> Iterator[None]:
    """Whatever goes wrong in Tantivy (it raises ValueError, OSError, or panics, which is no Exception) is IndexUnusable."""
    try:
        yield
    except IndexUnusable:
        raise
    except Exception as error:
        raise IndexUnusable(_why(error)) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise IndexUnusable(_why(error)) from None


def _why(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error)
    return "No space left on device" if "No space left" in text else text.strip().splitlines()[0][:200]


class Index:
    """One build, open for reading. Safe to use from several threads."""

    def __init__(self, folder: Path, marker: Marker) -> None:
        with understood():
            import tantivy

            self._tantivy = tantivy
            self._index = tantivy.Index.open(str(folder))
            self._index.register_tokenizer("words", memory_words.analyser())
            self._searcher = self._index.searcher()
        self._schema = self._index.schema
        self.marker = marker

    def __len__(self) -> int:
        return int(self._searcher.num_docs)

    def reload(self, marker: Marker) -> None:
        """See what was written since."""
        with understood():
            self._index.reload()
            self._searcher, self.marker = self._index.searcher(), marker

    def search(self, words: Collection[str], limit: int) -> list[str]:
        """Ids of the entries that share words with these, the best by BM25 first. The words go in as terms, unparsed."""
        query, occur = self._tantivy.Query, self._tantivy.Occur
        with understood():
            searcher = self._searcher
            terms = [
                (occur.Should, query.term_query(self._schema, "words", word, "freq"))
                for word in _telling(words, searcher)
            ]
            if not terms:
                return []
            hits = searcher.search(query.boolean_query(terms), limit, count=False).hits
            return [str(searcher.doc(address)["id"][0]) for _, address in hits]

    def rarity(self, words: Iterable[str]) -> memory_words.Rarity:
        """How rare these words are."""
        with understood():
            searcher = self._searcher
            frequencies = {word: searcher.doc_freq("words", word) for word in set(words)}
            return memory_words.Rarity(frequencies, searcher.num_docs)

    def writer(self, heap: int) -> Any:
        """Tantivy's writer into this build."""
        return self._index.writer(heap_size=heap, num_threads=1)


def _telling(words: Collection[str], searcher: Any) -> list[str]:
    """The rarest of the words that are known, as many as may be looked up."""
    seen = sorted((searcher.doc_freq("words", word), word) for word in words)
    chosen: list[str] = []
    postings = 0
    for count, word in seen:
        postings += count
        if chosen and postings > _MOST_POSTINGS:
            break
        if count:
            chosen.append(word)
    return chosen


class Builder:
    """Writes entries into a build; nothing of it counts before `finish`. Not for two threads at once."""

    def __init__(self, shelf: "Shelf", index: Index, folder: Path, *, new: bool) -> None:
        import tantivy

        self._tantivy = tantivy
        self._shelf, self._index, self._folder, self._new = shelf, index, folder, new
        with understood():
            self._writer = index.writer(_HEAP if new else _SMALL_HEAP)

    def take(self, entries: Iterable[Followed]) -> None:
        """Know these entries, or their new form; held-out ones never."""
        with understood():
            for entry in entries:
                if not self._new:
                    self._writer.delete_documents_by_term("id", entry.id)
                if not entry.held_out:
                    words = memory_words.readable(entry.question)
                    self._writer.add_document(self._tantivy.Document(id=entry.id, words=words))

    def finish(self, *, store: str, stamp: EntriesStamp) -> Index:
        """Write all of it, then let it count. The builds before are deleted."""
        with understood():
            self._writer.commit()
            self._writer.wait_merging_threads()
            del self._writer
            marker = Marker(self._folder.name, store, **asdict(stamp), files=_checksums(self._folder))
            self._shelf.point_to(marker)
            self._index.reload(marker)
        return self._index

    def abandon(self) -> None:
        """Leave no trace of an unfinished build."""
        if hasattr(self, "_writer"):
            with understood():
                self._writer.rollback()
            del self._writer
        if self._new:
            shutil.rmtree(self._folder, ignore_errors=True)


class Shelf:
    """The folder of the builds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def held(self) -> Iterator[bool]:
        """True in the one process that may write now. Raises IndexUnusable where the folder cannot be used."""
        with understood():
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("a")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def newest(self, known: Index | None) -> Index | None:
        """The build that counts, `known` itself where it is still the one; None where there is none that can be used."""
        marker = self._marker()
        if marker is None:
            return None
        if known is not None and known.marker == marker:
            return known
        folder = self.folder / marker.build
        try:
            if known is not None and known.marker.build == marker.build:
                known.reload(marker)
                return known
            _check(folder, marker)
            return Index(folder, marker)
        except (IndexUnusable, OSError) as error:
            log.warning("the memory's index cannot be used and is built anew", why=str(error))
            return None

    def extend(self, index: Index) -> Builder:
        """Write into the build that counts."""
        return Builder(self, index, self.folder / index.marker.build, new=False)

    def build(self) -> Builder:
        """Begin a new build beside the one that counts."""
        with understood():
            import tantivy

            folder = self.folder / f"build-{uuid.uuid4().hex[:12]}"
            folder.mkdir(parents=True)
            builder = tantivy.SchemaBuilder()
            builder.add_text_field("id", stored=True, tokenizer_name="raw", index_option="basic")
            builder.add_text_field("words", tokenizer_name="words", index_option="freq")
            tantivy.Index(builder.build(), path=str(folder))
        return Builder(self, Index(folder, Marker(folder.name, "", -1, -1, "", {})), folder, new=True)

    def point_to(self, marker: Marker) -> None:
        """This build counts from now on; the others go."""
        draft = self.folder / f"{_CURRENT}.new"
        with draft.open("w", encoding="utf-8") as file:
            json.dump(asdict(marker), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.folder / _CURRENT)
        for folder in self.folder.glob("build-*"):
            if folder.name != marker.build:
                shutil.rmtree(folder, ignore_errors=True)

    def _marker(self) -> Marker | None:
        try:
            marker = Marker(**json.loads((self.folder / _CURRENT).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            log.warning("the memory's index cannot be used and is built anew", why=str(error))
            return None
        return marker if marker.format == FORMAT else None


def _checksums(folder: Path) -> dict[str, int]:
    """Of the files that are never written again. About 0.1 s for a million entries."""
    written_again = {"meta.json", ".managed.json"}
    return {
        file.name: zlib.crc32(file.read_bytes())
        for file in sorted(folder.iterdir())
        if not file.name.endswith(".lock") and file.name not in written_again
    }


def _check(folder: Path, marker: Marker) -> None:
    """A file may be gone, merged into another one by somebody who writes just now: Tantivy knows which it needs."""
    for name, found in _checksums(folder).items():
        if marker.files.get(name, found) != found:
            raise IndexUnusable(f"{name} is damaged")
