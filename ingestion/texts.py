"""Which texts the sensors of a sample send, noted while it is decoded: what could become states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

_KEPT = 100


class Texts(dict[str, "SensorTexts"]):
    """Stands in for the declared states of `DecodeRules`: every sensor has some, and none has a code."""

    def __contains__(self, name: object) -> bool:
        """Every sensor is looked at."""
        return True

    def __missing__(self, name: str) -> SensorTexts:
        """A sensor seen for the first time."""
        self[name] = SensorTexts()
        return self[name]

    def seen(self) -> dict[str, Counter[str]]:
        """Sensor -> text -> number, of sensors that sent text which is no number."""
        return {name: found.texts for name, found in self.items() if found.texts}


class SensorTexts(dict[str, float]):
    """The texts of one sensor, at most a hundred different ones."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: Counter[str] = Counter()

    def get(self, text: str, _default: Any = None) -> None:  # type: ignore[override]
        """Note a text; it has no code."""
        text = text.strip()[:80]
        try:
            float(text)
        except ValueError:
            if text and (text in self.texts or len(self.texts) < _KEPT):
                self.texts[text] += 1

    def values(self) -> _Every:  # type: ignore[override]
        """Every number is welcome."""
        return _Every()


class _Every:
    def __contains__(self, number: object) -> bool:
        return True

    def __iter__(self) -> Iterator[float]:
        return iter(())
