"""What an architecture is: a frozen set of parameters that can be named, stored and built."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from models.errors import InvalidModel

if TYPE_CHECKING:
    import tensorflow as tf

_REGISTRY: dict[str, type[ArchitectureSpec]] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArchitectureSpec(ABC):
    """Parameters of one architecture; subclasses are frozen and registered under `name`."""

    name: ClassVar[str]
    shift_invariant: ClassVar[bool]
    """Whether the residual of a step depends on its `context` predecessors only, wherever the frame starts."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Register the architecture by its name."""
        super().__init_subclass__(**kwargs)
        _REGISTRY[cls.name] = cls

    @property
    @abstractmethod
    def context(self) -> int:
        """Leading steps of a frame that are read but not predicted."""

    @abstractmethod
    def network(self, steps: int | None, sensors: int, seed: int) -> tf.keras.Model:
        """Build the Keras model; `build` checks the arguments first."""

    def to_dict(self) -> dict[str, Any]:
        """Give a JSON-safe form that `from_dict` reads back."""
        return {"name": self.name, **dataclasses.asdict(self)}


def names() -> tuple[str, ...]:
    """Names of all architectures, sorted."""
    return tuple(sorted(_REGISTRY))


def from_name(name: str, **parameters: Any) -> ArchitectureSpec:
    """Give the architecture `name` with the parameters that differ from its defaults.

    Raises:
      InvalidModel: the name is unknown, or the architecture has no such parameter.
    """
    kind = _REGISTRY.get(name)
    if kind is None:
        raise InvalidModel(f"architecture {name!r} is unknown; choose one of {', '.join(names())}")
    allowed = [field.name for field in dataclasses.fields(kind)]
    for key in parameters:
        if key not in allowed:
            raise InvalidModel(f"architecture {name!r} has no parameter {key!r}; it has {', '.join(allowed)}")
    return kind(**parameters)


def from_dict(value: Mapping[str, Any]) -> ArchitectureSpec:
    """Read back what `ArchitectureSpec.to_dict` gave; lists become tuples.

    Raises:
      InvalidModel: as `from_name`.
    """
    parameters = {
        key: tuple(item) if isinstance(item, list) else item for key, item in value.items() if key != "name"
    }
    return from_name(str(value["name"]), **parameters)


def context(spec: ArchitectureSpec) -> int:
    """Leading steps of a frame that `spec` reads but does not predict (`T - T'`)."""
    return spec.context


def known(frames: tf.Tensor) -> tf.Tensor:
    """Frames in which NaN reads as 0. A layer with a name, as all layers of a network must be: what Keras names itself it numbers by all that its process built before."""
    import tensorflow as tf

    def filled(values: tf.Tensor) -> tf.Tensor:
        return tf.where(tf.math.is_nan(values), tf.zeros_like(values), values)

    return tf.keras.layers.Lambda(filled, name="known")(frames)


def build(spec: ArchitectureSpec, steps: int | None, sensors: int, seed: int) -> tf.keras.Model:
    """Build a Keras model from frames `float32[B, steps, sensors]` to predictions `float32[B, steps - context, sensors]`.

    Frames are scaled; NaN in them reads as 0. The same arguments give the same initial weights. `steps=None` gives a
    model of any length and is allowed for shift-invariant architectures only.

    Raises:
      InvalidModel: fewer steps than the architecture needs, no sensor, or `steps=None` where it is not allowed.
    """
    if sensors < 1:
        raise InvalidModel(f"architecture {spec.name!r} needs at least one sensor, got {sensors}")
    if steps is None and not spec.shift_invariant:
        raise InvalidModel(f"architecture {spec.name!r} needs a fixed number of steps; name one")
    if steps is not None and steps <= spec.context:
        raise InvalidModel(
            f"a frame of {steps} steps is too short for architecture {spec.name!r}: "
            f"it needs more than {spec.context}; raise the number of steps"
        )
    return spec.network(steps, sensors, seed)
