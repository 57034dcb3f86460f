"""What is remembered of a machine, kept in Kafka: a scorer that starts again goes on with the very same numbers.

One message a machine in the compacted topic `iiot.<site>.scorer.v1`, sent in the transaction that stores the position. It
holds the detector's state after a step that lies so far back that reading again from the stored position covers everything behind it, and the
last value of each sensor then: of a sensor that reports changes only it may be hours old. A later detector takes over the values alone.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.scoring.buffer import Held

ModelState = Mapping[str, NDArray[Any]]


def memory_topic(site: str) -> str:
    """The topic of a site's scorer memory."""
    return f"iiot.{site}.scorer.v1"


@dataclass(frozen=True, eq=False)
class Memory:
    """State of one machine after its step at `time_ns` (ns since 1970 UTC) under a detector's name and version; `held` is by `sensors`."""

    detector: str
    version: int
    time_ns: int
    state: ModelState
    sensors: tuple[str, ...]
    held: Held

    def to_bytes(self) -> bytes:
        """One message; nothing in it is executed when read."""
        file = io.BytesIO()
        about = {
            "detector": np.array(self.detector),
            "version": np.array(self.version, np.int64),
            "time_ns": np.array(self.time_ns, np.int64),
            "sensors": np.array(self.sensors),
            "held": self.held.values,
            "held_since_ns": self.held.since_ns,
        }
        np.savez_compressed(file, **about, **{f"state.{name}": value for name, value in self.state.items()})
        return file.getvalue()

    @classmethod
    def of_bytes(cls, content: bytes) -> "Memory | None":
        """Read back a message; None for what is not one."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as found:
                state = {
                    name.removeprefix("state."): found[name]
                    for name in found.files
                    if name.startswith("state.")
                }
                sensors = tuple(str(name) for name in found["sensors"])
                held = Held(
                    found["held"].astype(np.float64).reshape(len(sensors)),
                    found["held_since_ns"].astype(np.int64).reshape(len(sensors)),
                )
                about = str(found["detector"]), int(found["version"]), int(found["time_ns"])
                return cls(*about, state, sensors, held)
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, TypeError):
            return None

    def fits(self, detector: str, version: int, shapes: Mapping[str, Sequence[int | None]]) -> bool:
        """Whether this is a state of that very detector; `shapes` as its description gives them, batch first."""
        return (
            (self.detector, self.version) == (detector, version)
            and set(self.state) == set(shapes)
            and all(self.state[name].shape == tuple(shape[1:]) for name, shape in shapes.items())
        )

    def held_of(self, sensors: Sequence[str]) -> Held:
        """What was known of these sensors, in their order."""
        known = Held.nothing(len(sensors))
        where = {name: i for i, name in enumerate(self.sensors)}
        for i, name in enumerate(sensors):
            if name in where:
                known.values[i] = self.held.values[where[name]]
                known.since_ns[i] = self.held.since_ns[where[name]]
        return known
