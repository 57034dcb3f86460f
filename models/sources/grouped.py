"""A network with several sets of weights: the common ones, and those of sites or groups of sites that learned on by themselves."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.architectures.spec import ArchitectureSpec
from models.sources.network import NetworkSource

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True, eq=False)
class GroupedNetwork:
    """`networks`, of one architecture, the common one first; `group` int32[rows] says which of them is a row's.

    `members` are the sites of the others, by number; sites that it does not name, and the fleet, have the common one.
    """

    name: ClassVar[str] = "network"
    excursion: ClassVar[bool] = False

    networks: tuple[NetworkSource, ...]
    members: Mapping[str, int] = field(default_factory=dict)
    group: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))

    @classmethod
    def of(
        cls,
        spec: ArchitectureSpec,
        common: Sequence[NDArray[np.floating]],
        own: Mapping[str, Sequence[NDArray[np.floating]]],
        steps: int,
        sensors: int,
    ) -> GroupedNetwork:
        """The common weights and those of the sites `own` names; equal ones are kept once.

        Raises:
          InvalidModel: weights do not fit the architecture.
        """
        networks = [NetworkSource.of(spec, common, steps, sensors)]
        numbers = {_content(networks[0].weights): 0}
        members = {}
        for site, weights in sorted(own.items()):
            content = _content(weights)
            if content not in numbers:
                numbers[content] = len(networks)
                networks.append(NetworkSource.of(spec, weights, steps, sensors))
            members[site] = numbers[content]
        return cls(tuple(networks), members)

    def for_rows(self, sites: Sequence[str]) -> GroupedNetwork:
        """The same for a detector with a row for each of `sites` and the fleet's last."""
        group = [*(self.members.get(site, 0) for site in sites), 0]
        return replace(self, group=np.asarray(group, np.int32))

    def copy(self) -> GroupedNetwork:
        """The same with models of its own."""
        return replace(self, networks=tuple(replace(network) for network in self.networks))

    @property
    def floor(self) -> float:
        """As `Source.floor`."""
        return self.networks[0].floor

    @property
    def context(self) -> int:
        """As `Source.context`."""
        return self.networks[0].context

    @property
    def build(self) -> Hashable:
        """As `Source.build`."""
        return ("grouped", len(self.networks), self.networks[0].build)

    def tables(self) -> Mapping[str, NDArray[Any]]:
        """As `Source.tables`."""
        return {"group": self.group}

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Which network each row has, and all weights, numbered by network."""
        weights = {
            f"{number:04d}.{name}": weight
            for number, network in enumerate(self.networks)
            for name, weight in network.arrays().items()
        }
        return {"group": self.group, **weights}

    def residuals(self, arrays: Mapping[str, tf.Tensor], frames: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """As `Source.residuals`; a network of which no stretch is does not run."""
        import tensorflow as tf

        group = tf.gather(arrays["group"], rows)
        sensors = self.networks[0].sensors
        steps = tf.shape(frames)[1] - self.context
        found = tf.zeros((tf.shape(frames)[0], steps, sensors))
        for number, network in enumerate(self.networks):
            at = tf.where(tf.equal(group, number))
            chosen = tf.gather(frames, at[:, 0])

            def run(network: NetworkSource = network, chosen: tf.Tensor = chosen) -> tf.Tensor:
                return tf.ensure_shape(network.residuals({}, chosen, rows), (None, None, sensors))

            part = tf.cond(tf.size(at) > 0, run, lambda: tf.zeros((0, steps, sensors)))
            found = tf.tensor_scatter_nd_add(found, at, part)
        return found


def _content(weights: Sequence[NDArray[np.floating]]) -> tuple[bytes, ...]:
    return tuple(np.asarray(weight, np.float32).tobytes() for weight in weights)
