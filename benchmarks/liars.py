"""Sites that lie about their update, inside the very graph that the other sites run."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import tensorflow as tf

from pipeline.datasets.shards import ShardPaths
from pipeline.federation import compiled, process
from pipeline.federation.algorithms.base import Site, Tensors
from pipeline.federation.local import LocalTraining

LIES: dict[str, Callable[[Any], Any]] = {
    "scaled by a million": lambda update: 1e6 * update,
    "turned round": lambda update: -update,
    "turned round, tenfold": lambda update: -10.0 * update,
    "NaN": lambda update: float("nan") * update,
    "zero": tf.zeros_like,
}
"""What a liar makes of each tensor of its update."""


def liar(shards: ShardPaths, lie: str) -> ShardPaths:
    """The same site, that lies within `lying`: what it learned from this copy of its shard is told as `LIES[lie]` makes it."""
    path = Path(shards.train)
    copy = path.with_name(_mark(lie) + path.name)
    shutil.copyfile(path, copy)
    return dataclasses.replace(shards, train=str(copy))


@contextlib.contextmanager
def lying() -> Iterator[None]:
    """Within, every training of this process in which a site of `liar` takes part is lied to."""
    compiled._in_process.cache_clear()
    with mock.patch.object(process, "LocalTraining", _LyingTraining):
        yield
    compiled._in_process.cache_clear()


class _LyingTraining(LocalTraining):
    """Honest but where the shard's name says which lie is told."""

    def train(self, weights: Tensors, received: Tensors, learning_rate: Any, spec: Any) -> Any:
        """See `LocalTraining`."""
        told = {lie: tf.strings.regex_full_match(spec, rf"[\s\S]*{_mark(lie)}[\s\S]*") for lie in LIES}
        object.__setattr__(self, "_told", told)
        return super().train(weights, received, learning_rate, spec)

    def _steps(self, site: Site, rows: Any, starts: Any, shuffle: Any, learning_rate: Any) -> Any:
        after, *rest = super()._steps(site, rows, starts, shuffle, learning_rate)
        for lie, changed in LIES.items():
            is_told = self._told[lie]
            after = [
                tf.where(is_told, start + changed(new - start), new)
                for start, new in zip(site.start, after, strict=True)
            ]
        return after, *rest


def _mark(lie: str) -> str:
    return f"lie{list(LIES).index(lie)}."
