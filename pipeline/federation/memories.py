"""Files in which sites keep what an algorithm needs from one round to the next, such as control variates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.federation.settings import RoundResult


class Memories:
    """One file a site and round in `folder`; a round reads that of the last round in which the site's update counted.

    A round that is run again after an interruption therefore reads what it read before.
    """

    def __init__(self, folder: Path, rounds: int) -> None:
        """Use `folder`; what any of the latest `rounds` rounds may read stays."""
        self._folder, self._rounds = folder, rounds

    def files(self, site: str, curve: Sequence[RoundResult], number: int) -> dict[str, str]:
        """Give where the site reads and writes in round `number`; `recall` is empty when it takes part for the first time."""
        before = [result.round for result in curve if site in result.took_part]
        recall = str(self._file(site, before[-1])) if before else ""
        return {"recall": recall, "remember": str(self._file(site, number))}

    def drop_old(self, curve: Sequence[RoundResult]) -> None:
        """Remove what no round will read, also if the latest checkpoints are lost but one."""
        needed = set()
        oldest = curve[-1].round - self._rounds
        for site in {site for result in curve for site in result.took_part}:
            numbers = [result.round for result in curve if site in result.took_part]
            needed |= {self._file(site, number) for number in numbers if number > oldest}
            needed |= {self._file(site, number) for number in [n for n in numbers if n <= oldest][-1:]}
        for path in self._folder.glob("*.memory"):
            if path not in needed:
                path.unlink(missing_ok=True)

    def _file(self, site: str, number: int) -> Path:
        return self._folder / f"{site}.{number:06d}.memory"
