"""A spec as texts: what is sent to workers and kept with a study, read back where files are not.

Shipped specs are there wherever the tool is; of them the name suffices.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ..backend.physics import PHYSICS
from ..frontend.hardware import HardwareSpace, source_files
from ..frontend.hardware.files import SHIPPED, read_bytes, text_of
from ..frontend.hardware.space import load_hardware
from ..ir.store import digest


@dataclass(frozen=True)
class SpecTexts:
    """A spec, and every file that it uses."""

    main: str
    """The path of the spec, or its name where it is shipped."""
    files: tuple[tuple[str, str], ...]
    """Path and text of the spec and of all that it uses, which are not shipped; paths from a folder
    that holds them all."""
    shipped: tuple[tuple[str, str], ...] = ()
    """Name and text of the shipped ones."""

    @classmethod
    def of(cls, name: str) -> "SpecTexts":
        """The spec at a path, or the shipped one of a name, as it is now; raises UserError."""
        paths = [path.resolve() for path in source_files(name)]
        own = [path for path in paths if path.parent != SHIPPED.resolve()]
        folder = Path(os.path.commonpath([path.parent for path in own])) if own else Path()
        return cls(
            main=os.path.relpath(paths[0], folder) if paths[0] in own else paths[0].stem,
            files=tuple((os.path.relpath(path, folder), _text(path)) for path in own),
            shipped=tuple((path.name, _text(path)) for path in paths if path not in own),
        )

    @property
    def digest(self) -> str:
        """What tells this content from any other."""
        return digest(self.main, *(part for file in (*self.files, *self.shipped) for part in file))

    def load(self) -> HardwareSpace:
        """The space that the texts describe, judged by the backend's physics; raises UserError."""
        with self._written() as name:
            return replace(load_hardware(name), physics=PHYSICS)

    @contextmanager
    def _written(self) -> Iterator[str]:
        """A path of the spec with all that it uses beside it, for as long as it is read."""
        if not self.files:
            yield self.main
            return
        with TemporaryDirectory(prefix="wscc-") as folder:
            for path, text in self.files:
                file = Path(folder, path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, "utf-8")
            yield str(Path(folder, self.main))


def _text(path: Path) -> str:
    if path.suffix == ".wsc":
        return text_of(read_bytes(path), str(path))
    return path.read_text("utf-8-sig")
