"""What the detector remembers of a machine, kept in Kafka: a scorer that starts again goes on with the very same numbers.

One message a machine in the compacted topic `iiot.<site>.scorer.v1`, sent in the transaction that stores the position. It
holds the state after a step that lies so far back that reading again from the stored position covers everything behind it.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ModelState = Mapping[str, NDArray[Any]]


def memory_topic(site: str) -> str:
    """The topic of a site's scorer memory."""
    return f"iiot.{site}.scorer.v1"


@dataclass(frozen=True, eq=False)
class Memory:
    """State of one machine after its step at `time_ns` (ns since 1970 UTC) under a detector's name and version."""

    detector: str
    version: int
    time_ns: int
    state: ModelState

    def to_bytes(self) -> bytes:
        """One message; nothing in it is executed when read."""
        file = io.BytesIO()
        about = {
            "detector": np.array(self.detector),
            "version": np.array(self.version, np.int64),
            "time_ns": np.array(self.time_ns, np.int64),
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
                return cls(str(found["detector"]), int(found["version"]), int(found["time_ns"]), state)
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, TypeError):
            return None

    def fits(self, detector: str, version: int, shapes: Mapping[str, Sequence[int | None]]) -> bool:
        """Whether this is a state of that very detector; `shapes` as its description gives them, batch first."""
        return (
            (self.detector, self.version) == (detector, version)
            and set(self.state) == set(shapes)
            and all(self.state[name].shape == tuple(shape[1:]) for name, shape in shapes.items())
        )
