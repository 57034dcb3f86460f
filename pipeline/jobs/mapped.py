"""Site files through the sensors' rules, as ingestion takes messages through them: a file holds what a plant would send."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa

from ingestion.mapping import SiteMapping, by_sensor
from ingestion.records import BASE_FIELDS, RESERVED, Decoded
from ingestion.sitefile import SiteFile
from pipeline.config.schema import Config
from pipeline.config.sensors import sensors_of
from pipeline.remarks import listed, together


def mapped_files(
    files: Mapping[str, SiteFile], config: Config, say: Callable[[str], None]
) -> dict[str, SiteFile]:
    """The files with `ingestion.sensors` and `sites.sensors` applied; values that they leave out, and rules of no sensor, are said.

    Machines keep their names, because labels are told by them.
    """
    rules = {site: {name: each.rule() for name, each in sensors_of(config, site).items()} for site in files}
    found: dict[str, SiteFile] = {}
    remarks: list[tuple[str, str]] = []
    for site, file in files.items():
        found[site], counts = _mapped(file, SiteMapping(rules[site]))
        if counts:
            told = (
                f"{sensor} {reason} {count:,}"
                for sensor, why in counts.items()
                for reason, count in sorted(why.items())
            )
            remarks.append((site, f"values left out by the sensors' rules: {listed(told)}"))
    for line in together(remarks):
        say(line)
    known = {sensor for file in files.values() for sensor in file.sensors}
    unknown = sorted({sensor for of in rules.values() for sensor in of} - known)
    if unknown:
        say(
            f"no file has the sensors {listed(map(repr, unknown))} that the configuration has rules for (capitals matter)"
        )
    return found


def _mapped(file: SiteFile, mapping: SiteMapping) -> tuple[SiteFile, dict[str, dict[str, int]]]:
    table = pa.table(
        {
            **{field.name: pa.nulls(len(file.frame), field.type) for field in BASE_FIELDS},
            **{name: pa.array(file.frame[name].to_numpy(np.float64)) for name in file.sensors},
        }
    )
    result = mapping.apply(Decoded(table))
    if result.readings is table:
        return file, {}
    sensors = tuple(name for name in result.readings.column_names if name not in RESERVED)
    values = {name: result.readings.column(name).to_numpy().astype(np.float64) for name in sensors}
    frame = pd.DataFrame({**file.frame[["timestamp", "asset"]], **values}, index=file.frame.index)
    return replace(file, frame=frame, sensors=sensors), by_sensor(result.counts)
