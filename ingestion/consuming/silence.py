"""Which partitions have had nothing to say for so long that their open windows can close. Pure: all times are handed in, in monotonic seconds."""

from collections.abc import Iterable

from ingestion.records import Place


class Silence:
    """A partition is silent if the broker said that it holds nothing more, and nothing came for longer than `timeout` since, while we listened."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._since: dict[Place, float] = {}
        self._ended: set[Place] = set()

    def broken(self, place: Place, now: float) -> None:
        """Something was read of the partition, or it has just become ours."""
        self._since[place] = now
        self._ended.discard(place)

    def ended(self, place: Place) -> None:
        """The broker has nothing more of it."""
        if place in self._since:
            self._ended.add(place)

    def listening_anew(self, now: float) -> None:
        """Nobody was asked until now, and what came meanwhile is not known yet."""
        self._since = dict.fromkeys(self._since, now)

    def forget(self, place: Place) -> None:
        """The partition is no longer ours."""
        self._since.pop(place, None)
        self._ended.discard(place)

    def over(self, listened: float) -> Iterable[Place]:
        """The silent partitions, in their order; `listened` is when the last question was asked whose answer is known."""
        return sorted(place for place in self._ended if listened - self._since[place] > self._timeout)
