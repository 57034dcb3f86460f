"""A detector in one file: an `.npz` of its arrays and one JSON text; nothing in it is executed when read."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.architectures.spec import from_dict
from models.errors import DetectorUnreadable, ModelError
from models.options import HOLD_OFF, DetectorOptions
from models.sensors import SensorHistory
from models.sources.base import Source
from models.sources.grouped import GroupedNetwork
from models.sources.network import NetworkSource
from models.sources.pca import PcaSource
from models.sources.ridge import LAGS, RidgeSource
from models.sources.zscore import ZScoreSource
from models.tables import Calibration

if TYPE_CHECKING:
    from models.detector import Detector

FORMAT_VERSION = 3
LOGARITHMS_VERSION = 4
"""Of a detector that takes logarithms, which a reader of the format before would leave out."""
SWITCHING_VERSION = 5
"""Of a detector of machines that switch, of which a reader of the formats before would leave out what it is told of them."""
REGIMES_VERSION = 6
"""Of a detector that judges residuals by the regime a machine is in."""
ORDINARY_VERSION = 7
"""Of a detector that discounts what is ordinary for a sensor."""
FILLING_VERSION = 8
"""Of a detector that fills missing readings from the others."""
REDESCENDING_VERSION = 9
"""Of a detector whose gains are moved less by what lies far out."""
READS = (
    FORMAT_VERSION,
    LOGARITHMS_VERSION,
    SWITCHING_VERSION,
    REGIMES_VERSION,
    ORDINARY_VERSION,
    FILLING_VERSION,
    REDESCENDING_VERSION,
)


def format_version(detector: Detector) -> int:
    """The lowest format that says everything of a detector."""
    if detector.calibration.redescends:
        return REDESCENDING_VERSION
    if detector.calibration.fills:
        return FILLING_VERSION
    if detector.calibration.discounts:
        return ORDINARY_VERSION
    if detector.calibration.has_regimes:
        return REGIMES_VERSION
    soft = any(isinstance(each, RidgeSource) and each.switches is not None for each in detector.sources)
    if soft or detector.calibration.damped:
        return SWITCHING_VERSION
    return FORMAT_VERSION if detector.floor is None else LOGARITHMS_VERSION


def check_format(version: int) -> None:
    """Raise ValueError for a format that this release does not know."""
    if version not in READS:
        raise ValueError(f"format version {version}, this release reads {', '.join(map(str, READS))}")


def save_detector(detector: Detector, path: Path) -> None:
    """Write `path` by rename: whoever reads sees the old file or the whole new one."""
    header = {
        "format_version": format_version(detector),
        "sensors": list(detector.sensors),
        "step_seconds": detector.step_seconds,
        "steps": detector.steps,
        "sites": list(detector.sites),
        "options": _options(detector.options),
        "sources": [_describe(source) for source in detector.sources],
    }
    arrays = {"mean": detector.mean, "scale": detector.scale, **detector.calibration.arrays()}
    if detector.floor is not None:
        arrays["floor"] = detector.floor
    arrays.update({f"history.{name}": value for name, value in detector.history.arrays().items()})
    for index, source in enumerate(detector.sources):
        arrays.update({f"{index}.source.{name}": value for name, value in source.arrays().items()})
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    handle, temporary = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, header=text, **arrays)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_detector(path: Path) -> Detector:
    """Read what `save_detector` wrote.

    Raises:
      DetectorUnreadable: missing, damaged or of another format.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            if isinstance(found, np.ndarray):
                raise ValueError("one array instead of several")
            arrays = {name: found[name] for name in found.files}
        header = json.loads(arrays.pop("header").tobytes())
        check_format(header["format_version"])
        return _detector(header, arrays)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        zipfile.BadZipFile,
        ModelError,
    ) as error:
        raise DetectorUnreadable(f"{path}: not a saved detector ({error}); fit it again") from error


def _options(of: DetectorOptions) -> dict[str, Any]:
    """Plain form; the hold-off, which releases before do not know, only where the threshold was set by another than theirs."""
    plain = dataclasses.asdict(of)
    if of.rule != "alarms_per_week" or of.hold_off_seconds == HOLD_OFF:
        del plain["hold_off_seconds"]
    return plain


def _describe(source: Source) -> dict[str, Any]:
    described: dict[str, Any] = {"name": source.name, "floor": source.floor}
    if isinstance(source, NetworkSource):
        described["spec"] = source.spec.to_dict()
    if isinstance(source, GroupedNetwork):
        described.update(spec=source.networks[0].spec.to_dict(), networks=len(source.networks))
    if isinstance(source, RidgeSource):
        described["ridge"] = source.ridge
    if isinstance(source, ZScoreSource):
        described["excursion"] = source.excursion
    return described


def _source(
    described: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], steps: int, sensors: int
) -> Source:
    floor = float(described["floor"])
    if described["name"] == NetworkSource.name and "networks" in described:
        alone = {key: value for key, value in described.items() if key != "networks"}
        networks = [
            _source(alone, _below(arrays, f"{number:04d}."), steps, sensors)
            for number in range(int(described["networks"]))
        ]
        group = arrays["group"]
        if group.dtype != np.int32 or group.min() < 0 or group.max() >= len(networks):
            raise ValueError(f"group names networks up to {group.max()} of {len(networks)}")
        return GroupedNetwork(tuple(n for n in networks if isinstance(n, NetworkSource)), group=group)
    if described["name"] == NetworkSource.name:
        weights = [arrays[name] for name in sorted(arrays)]
        found = NetworkSource.of(from_dict(described["spec"]), weights, steps, sensors)
        return dataclasses.replace(found, floor=floor)
    if described["name"] == PcaSource.name:
        return PcaSource(arrays["projection"], floor)
    if described["name"] == RidgeSource.name:
        at_once, switches = arrays.get("at_once"), arrays.get("switches")
        return RidgeSource(arrays["weights"], float(described["ridge"]), floor, at_once, switches)
    if described["name"] == ZScoreSource.name:
        return ZScoreSource(bool(described["excursion"]), floor)
    raise ValueError(f"unknown source {described['name']!r}")


def _detector(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Detector:
    from models.detector import Detector

    sensors, sites, steps = tuple(header["sensors"]), tuple(header["sites"]), int(header["steps"])
    rows = len(sites) + 1
    sources = tuple(
        _source(described, _below(arrays, f"{index}.source."), steps, len(sensors))
        for index, described in enumerate(header["sources"])
    )
    calibration = Calibration.shapes(rows, len(sources), len(sensors))
    arrays = {**Calibration.without(rows, len(sources), len(sensors)), **arrays}
    history = [f"history.{each.name}" for each in dataclasses.fields(SensorHistory)]
    by_sensor = dict.fromkeys(["mean", "scale", *history], (rows, len(sensors)))
    expected: dict[str, tuple[int, ...]] = {**by_sensor, **calibration}
    for index, source in enumerate(sources):
        if isinstance(source, GroupedNetwork):
            expected[f"{index}.source.group"] = (rows,)
        if isinstance(source, PcaSource):
            expected[f"{index}.source.projection"] = (rows, len(sensors), len(sensors))
        if isinstance(source, RidgeSource):
            expected[f"{index}.source.weights"] = (rows, (LAGS + 1) * len(sensors) + 1, len(sensors))
            if source.switches is not None:
                expected[f"{index}.source.at_once"] = (rows, len(sensors) + 1, len(sensors))
                expected[f"{index}.source.switches"] = (rows,)
    for name, shape in expected.items():
        if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} has shape {arrays[name].shape} or holds NaN; expected finite {shape}")
    if (arrays["regime_size"] <= 0).any():
        raise ValueError("regime_size holds what no residual can be divided by")
    for name in ("ordinary", "redescent"):
        if (arrays[name] < 0).any():
            raise ValueError(f"{name} holds less than nothing")
    floor = arrays.get("floor")
    if floor is not None:
        known = floor[~np.isnan(floor)]
        if floor.shape != (rows, len(sensors)) or (known < 0).any() or np.isinf(known).any():
            raise ValueError(
                f"floor has shape {floor.shape} or holds what is no reading; expected {(rows, len(sensors))}"
            )
    options: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in header["options"].items()
    }
    return Detector(
        sensors=sensors,
        step_seconds=float(header["step_seconds"]),
        steps=steps,
        sites=sites,
        sources=sources,
        mean=arrays["mean"],
        scale=arrays["scale"],
        calibration=Calibration(**{name: arrays[name] for name in calibration}),
        history=SensorHistory(**_below(arrays, "history.")),
        options=DetectorOptions(**options),
        floor=floor,
    )


def _below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}
