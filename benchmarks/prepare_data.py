"""Write public data sets as site files (one Parquet per site), the form that `fedplant backtest` and `fedplant replay` read.

    python benchmarks/prepare_data.py --data DIR --out DIR [--sets smd tep ...] [--machines machine-1-6 ...]

`--data` is a folder with one folder per raw set (`smd19/*.npz`, `tep/*.dat`, `skab/`, `batadal/`, `gas_turbine/`, `steel_energy/`, `pjm_zones/`).
Sites of set `smd` go to `<out>/smd/`, and so on; with `--machines` the chosen SMD machines go to `<out>` itself, which is how `examples/machines` was
made. Prints one JSON object: per set its sites, rows, step and the `train_until` that separates training from test rows.
Nothing is resampled or cleaned; times are made up but regular where a set has none.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

START = pd.Timestamp("2026-01-05T00:00:00Z")
TRAIN_UNTIL = pd.Timestamp("2026-01-21T00:00:00Z")

# The 38 metrics in the order of the columns, as published with the data set as far as is known: the raw files name none.
SMD_SENSORS = [
    "cpu_r",
    "load_1",
    "load_5",
    "load_15",
    "mem_shmem",
    "mem_u",
    "mem_u_e",
    "total_mem",
    "disk_q",
    "disk_r",
    "disk_rb",
    "disk_svc",
    "disk_u",
    "disk_w",
    "disk_wa",
    "disk_wb",
    "si",
    "so",
    "eth1_fi",
    "eth1_fo",
    "eth1_pi",
    "eth1_po",
    "tcp_tw",
    "tcp_use",
    "active_opens",
    "curr_estab",
    "in_errs",
    "in_segs",
    "listen_overflows",
    "out_rsts",
    "out_segs",
    "passive_opens",
    "retransegs",
    "tcp_timeouts",
    "udp_in_dg",
    "udp_out_dg",
    "udp_rcv_buf_errs",
    "udp_snd_buf_errs",
]


@dataclass(frozen=True)
class Series:
    """One site: `values` float[N, F] named by `sensors`; rows from `train_rows` on are test rows; `labels` int[N] (-1 unknown) or None."""

    site: str
    start: pd.Timestamp
    step: pd.Timedelta
    sensors: list[str]
    values: np.ndarray
    train_rows: int
    labels: np.ndarray | None


def _before_cut(train_rows: int, step: pd.Timedelta) -> pd.Timestamp:
    return TRAIN_UNTIL - train_rows * step


def smd(data: Path, machines: list[str] | None = None) -> Iterator[Series]:
    """Server Machine Dataset (Su et al., KDD 2019): training half, then test half, one-minute steps; the training half is unlabelled."""
    names = machines or sorted(path.stem for path in (data / "smd19").glob("machine-*.npz"))
    for name in names:
        with np.load(data / "smd19" / f"{name}.npz") as raw:
            train, test, truth = raw["train"], raw["test"], raw["test_label"]
        labels = np.concatenate([np.full(len(train), -1), truth])
        step = pd.Timedelta("1min")
        # The whole set shares one `train_until`; the example keeps its own start, its machines are equally long.
        start = START if machines else _before_cut(len(train), step)
        yield Series(name, start, step, SMD_SENSORS, np.concatenate([train, test]), len(train), labels)


def tep(data: Path) -> Iterator[Series]:
    """Tennessee Eastman (Chiang et al., 2001): the normal run `d00` for training, then each fault's test run, faulty from its row 160."""
    step = pd.Timedelta("3min")
    sensors = [f"xmeas_{i}" for i in range(1, 42)] + [f"xmv_{i}" for i in range(1, 12)]
    normal = np.loadtxt(data / "tep" / "d00.dat").T
    for fault in range(22):
        test = np.loadtxt(data / "tep" / f"d{fault:02d}_te.dat")
        truth = (np.arange(len(test)) >= 160) & (fault > 0)
        labels = np.concatenate([np.zeros(len(normal)), truth]).astype(int)
        values = np.concatenate([normal, test])
        yield Series(
            f"fault-{fault:02d}", _before_cut(len(normal), step), step, sensors, values, len(normal), labels
        )


def skab(data: Path) -> Iterator[Series]:
    """SKAB (Katser & Kozitsin, 2020): one site per experiment, first 400 rows for training as its authors do, one-second steps."""
    step = pd.Timedelta("1s")
    for path in sorted((data / "skab").glob("*/[0-9]*.csv")):
        frame = pd.read_csv(path, sep=";")
        labels = frame["anomaly"].to_numpy().astype(int)
        frame = frame.drop(columns=["datetime", "anomaly", "changepoint"])
        site = f"{path.parent.name}-{path.stem}"
        yield Series(site, _before_cut(400, step), step, list(frame.columns), frame.to_numpy(), 400, labels)


def batadal(data: Path) -> Iterator[Series]:
    """BATADAL water network (Taormina et al., 2018): a normal year for training, then both attacked periods in sequence, hourly."""
    step = pd.Timedelta("1h")
    frames = [
        pd.read_csv(data / "batadal" / f"{name}.csv", skipinitialspace=True)
        for name in ("dataset03", "dataset04", "test_dataset")
    ]
    flags = [frame["ATT_FLAG"].to_numpy() == 1 for frame in frames]
    sensors = [name for name in frames[0].columns if name not in ("DATETIME", "ATT_FLAG")]
    values = np.concatenate([frame[sensors].to_numpy(dtype=float) for frame in frames])
    rows = len(frames[0])
    yield Series(
        "c-town", _before_cut(rows, step), step, sensors, values, rows, np.concatenate(flags).astype(int)
    )


def gas_turbine(data: Path) -> Iterator[Series]:
    """UCI 551 gas turbine emissions (Kaya et al., 2019): one site, hourly, three of five years for training, no labels."""
    step, rows = pd.Timedelta("1h"), 7411 + 7628 + 7152
    frame = pd.read_csv(data / "gas_turbine" / "gt_2011_2015.csv").select_dtypes("number")
    yield Series("turbine", _before_cut(rows, step), step, list(frame.columns), frame.to_numpy(), rows, None)


def steel(data: Path) -> Iterator[Series]:
    """UCI 851 steel plant energy (Sathishkumar et al., 2021): one site, 15 minutes, half a year for training, no labels."""
    step = pd.Timedelta("15min")
    frame = pd.read_csv(next((data / "steel_energy").glob("*.csv"))).select_dtypes("number")
    rows = len(frame) // 2
    yield Series("steel", _before_cut(rows, step), step, list(frame.columns), frame.to_numpy(), rows, None)


def pjm(data: Path) -> Iterator[Series]:
    """PJM hourly load: one site per zone with its longest recorded span, hourly, first 70 % for training, no labels."""
    step = pd.Timedelta("1h")
    frame = pd.read_csv(data / "pjm_zones" / "est_hourly.csv.gz", index_col=0, parse_dates=True)
    frame = frame[~frame.index.duplicated()].sort_index().asfreq("1h")
    for zone in frame.columns:
        load = frame[zone].loc[frame[zone].first_valid_index() : frame[zone].last_valid_index()]
        rows = int(len(load) * 0.7)
        yield Series(
            zone.lower(), _before_cut(rows, step), step, ["load_mw"], load.to_numpy()[:, None], rows, None
        )


SETS: dict[str, Callable[[Path], Iterator[Series]]] = {
    "smd": smd,
    "tep": tep,
    "skab": skab,
    "batadal": batadal,
    "gas_turbine": gas_turbine,
    "steel": steel,
    "pjm": pjm,
}


def write(series: Series, folder: Path) -> pd.Timestamp:
    """Write one site file (float32, zstd; label int8, null where unknown); returns the time of the first test row."""
    times = pd.date_range(series.start, periods=len(series.values), freq=series.step)
    columns: dict[str, pa.Array] = {"timestamp": pa.array(times, pa.timestamp("ms", tz="UTC"))}
    for index, name in enumerate(series.sensors):
        columns[name] = pa.array(series.values[:, index].astype(np.float32))
    if series.labels is not None:
        columns["label"] = pa.array(series.labels.astype(np.int8), mask=series.labels < 0)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.table(columns), folder / f"{series.site}.parquet", compression="zstd", compression_level=19
    )
    return times[series.train_rows]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=sorted(SETS), default=["smd"])
    parser.add_argument("--machines", nargs="+")
    chosen = parser.parse_args()
    summary = {}
    for name in ["smd"] if chosen.machines else chosen.sets:
        folder = chosen.out if chosen.machines else chosen.out / name
        sources = smd(chosen.data, chosen.machines) if chosen.machines else SETS[name](chosen.data)
        cuts, rows, step = [], 0, pd.Timedelta(0)
        for series in sources:
            cuts.append(write(series, folder))
            rows, step = rows + len(series.values), series.step
        summary[name] = {
            "folder": str(folder),
            "sites": len(cuts),
            "rows": rows,
            "step_seconds": step.total_seconds(),
            "train_until": min(cuts).isoformat(),
        }
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
