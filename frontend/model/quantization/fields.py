"""Values of a `quantization_config`, each checked where it is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ....ir.errors import nearest
from ..config.section import ConfigError

KEY = "quantization_config"

_LARGEST_BLOCK = 1 << 24


@dataclass(frozen=True)
class Fields:
    """An object of the file and the keys that lead to it. Every getter raises ConfigError."""

    values: Mapping[str, Any]
    path: tuple[str, ...]

    @classmethod
    def of(cls, value: object, path: tuple[str, ...] = (KEY,)) -> "Fields":
        """An object; raises ConfigError for anything else."""
        if not isinstance(value, Mapping):
            raise ConfigError(f"{'.'.join(path)} must be an object, not {_shown(value)}", path)
        return cls({str(key): item for key, item in value.items()}, path)

    def __contains__(self, key: str) -> bool:
        """Whether the file gives the key a value."""
        return self.values.get(key) is not None

    def error(self, message: str, key: str) -> ConfigError:
        return ConfigError(message, (*self.path, key))

    def _wrong(self, key: str, wanted: str) -> ConfigError:
        label = ".".join((*self.path, key))
        return self.error(f"{label} must be {wanted}, not {_shown(self.values[key])}", key)

    def text(self, key: str, default: str) -> str:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._wrong(key, "a string")
        return value

    def choice(self, key: str, known: Sequence[str], default: str) -> str:
        """One of some words, in any case."""
        value = self.text(key, default)
        by_lower = {word.lower(): word for word in known}
        if value.lower() not in by_lower:
            hint = nearest(value, known)
            raise (
                self._wrong(key, f"one of {', '.join(known)}")
                if not hint
                else self.error(f"{'.'.join((*self.path, key))}: no '{value}'{hint}", key)
            )
        return by_lower[value.lower()]

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def number(self, key: str, known: Sequence[int], default: int | None = None) -> int:
        """One of some integers."""
        value = self.values.get(key, default)
        if value is None:
            raise self.error(f"{'.'.join((*self.path, key))} is missing", key)
        if type(value) is not int or value not in known:
            raise self._wrong(key, f"one of {', '.join(str(number) for number in known)}")
        return value

    def group(self, key: str, default: int | None = None) -> int:
        """The size of a group; -1, and 0, are the whole dimension."""
        value = self.values.get(key)
        value = default if value is None else value
        if value is None:
            raise self.error(f"{'.'.join((*self.path, key))} is missing", key)
        if type(value) is not int or not -1 <= value <= _LARGEST_BLOCK:
            raise self._wrong(key, "a positive integer, or -1 for the whole dimension")
        return max(value, 0)

    def pair(self, key: str) -> tuple[int, int] | None:
        """Two positive integers."""
        value = self.values.get(key)
        if value is None:
            return None
        items = list(value) if isinstance(value, list | tuple) else []
        if len(items) != 2 or any(
            type(item) is not int or not 0 < item <= _LARGEST_BLOCK for item in items
        ):
            raise self._wrong(key, "two positive integers")
        return items[0], items[1]

    def names(self, key: str) -> list[str] | None:
        """A list of strings; None where there is none."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or any(not isinstance(item, str) for item in value):
            raise self._wrong(key, "a list of strings")
        return value

    def section(self, key: str) -> "Fields | None":
        """An object inside; None where there is none."""
        value = self.values.get(key)
        return None if value is None else Fields.of(value, (*self.path, key))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
