"""Where a training stands after its last finished round, and how that is kept between processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.federation.checkpoints import Checkpoint
from pipeline.federation.convergence import Convergence
from pipeline.federation.settings import RoundResult


@dataclass
class Progress:
    """What the next round starts from.

    Attributes:
      state: the process's state, flat; its first `weight_leaves` arrays are the model's weights.
      weight_leaves: how many those are.
      rule: the stop rule after `curve`.
      best: weights of the best round so far, empty before the first.
      curve: finished rounds.
      excluded: sites that take part no longer, with the reason.
    """

    state: list[Any]
    weight_leaves: int
    rule: Convergence
    best: list[Any] = field(default_factory=list)
    curve: list[RoundResult] = field(default_factory=list)
    excluded: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Checkpoint, weight_leaves: int, rule: Convergence) -> Progress:
        """Read back what `checkpoint` gave; `rule` is that of a training without any round."""
        curve = [
            RoundResult(**{**entry, "took_part": tuple(entry["took_part"])})
            for entry in found.progress["curve"]
        ]
        for result in curve:
            rule = rule.after(result.round, result.validation)
        excluded = dict(found.progress["excluded"])
        return cls(list(found.state), weight_leaves, rule, list(found.best_weights), curve, excluded)

    def add(self, result: RoundResult, state: Sequence[Any]) -> None:
        """A round has ended with `state`."""
        self.state = list(state)
        self.curve.append(result)
        self.rule = self.rule.after(result.round, result.validation)
        if self.rule.best_round == result.round or not self.best:
            self.best = self.state[: self.weight_leaves]

    def checkpoint(self) -> Checkpoint:
        """All of it, for the disk."""
        told = {"curve": [asdict(entry) for entry in self.curve], "excluded": self.excluded}
        return Checkpoint(len(self.curve), self.state, self.best, told)
