"""Text kept between runs, filed by the digest of everything that it was made from.

A store is a folder of small text files, each with a checksum: one that is damaged reads as absent,
and one that cannot be written is a warning. What is stored and under which key is in cli/run.py.
"""

import hashlib
import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

_HEAD = "wscc-store 1 sha256 "
_KEY = re.compile(r"[0-9a-f]{64}\.txt")
_LEFTOVER = re.compile(r"\.[0-9a-f]{64}\.txt\.\w+\.part")


def digest(*parts: str) -> str:
    """The SHA-256, in hex, of a sequence of texts; `("ab", "c")` and `("a", "bc")` differ."""
    found = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        found.update(f"{len(encoded)}:".encode())
        found.update(encoded)
    return found.hexdigest()


def write_text(path: Path, text: str, mode: int | None = None) -> None:
    """Write a file whole or not at all: write beside it, then rename. Raises OSError.

    `mode`: its permissions, where they are not those of any new file.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(beside, "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        if mode is not None:
            os.chmod(beside, mode)
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def default_folder() -> Path:
    """`$WSCC_CACHE`, else the platform's folder for caches."""
    named = os.environ.get("WSCC_CACHE")
    if named:
        return Path(named)
    import platformdirs

    return platformdirs.user_cache_path("wscc", appauthor=False)


@dataclass(frozen=True)
class Entry:
    """One stored text: its kind (`trace`, `program`), key, and bytes on disk."""

    kind: str
    key: str
    bytes: int


class Store:
    """Texts by kind and key in a folder: `folder/kind/key.txt`, the first line a checksum."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = default_folder() if folder is None else folder
        self._warned = False

    def get(self, kind: str, key: str) -> str | None:
        """The text stored under `key`; None if there is none or it is damaged."""
        path = self._path(kind, key)
        try:
            head, _, text = path.read_bytes().decode("utf-8").partition("\n")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            logger.info("the cache entry %s cannot be read: %s", path, error)
            return None
        if head != _HEAD + digest(text):
            logger.info("the cache entry %s is damaged", path)
            return None
        return text

    def put(self, kind: str, key: str, text: str) -> None:
        """Store `text`; a folder that cannot be written is a warning, once."""
        path = self._path(kind, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, f"{_HEAD}{digest(text)}\n{text}")
        except OSError as error:
            if not self._warned:
                logger.warning("nothing is cached: %s", error)
            self._warned = True

    def entries(self) -> tuple[Entry, ...]:
        """What is stored, ordered by kind and key."""
        found = [path for path in self._files() if _KEY.fullmatch(path.name)]
        return tuple(Entry(path.parent.name, path.stem, path.stat().st_size) for path in found)

    def clear(self) -> int:
        """Remove every entry, and only those; the number removed. Raises OSError."""
        removed = 0
        for path in self._files():
            path.unlink(missing_ok=True)
            removed += _KEY.fullmatch(path.name) is not None
        return removed

    def _path(self, kind: str, key: str) -> Path:
        return self.folder / kind / f"{key}.txt"

    def _files(self) -> Iterator[Path]:
        """Entries, and what a killed run left half-written; nothing else in the folder."""
        for path in sorted(self.folder.glob("*/*")):
            if _KEY.fullmatch(path.name) or _LEFTOVER.fullmatch(path.name):
                yield path
