"""Quix Streams collecting one-minute windows of the benchmark's topic; runs in the environment that `ingestion.py` makes for it.

`python quix_windows.py BOOTSTRAP TOPIC MESSAGES FOLDER default|light|files` prints seconds and windows as one JSON object. `light` is without
changelog topics, so that its state does not outlive its machine. `files` is what ingestion does: every message counts exactly once, and
windows end in Parquet files.
"""

import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from quixstreams import Application


def main() -> None:
    """Read, window, count."""
    bootstrap, topic, messages, folder, way = sys.argv[1:]
    seen, windows = [0], [0]

    def read(*_: object) -> None:
        seen[0] += 1
        if seen[0] == int(messages):
            app.stop()

    def count(_window: object) -> None:
        windows[0] += 1

    app = Application(
        broker_address=bootstrap,
        consumer_group=f"quix-{uuid.uuid4()}",
        auto_offset_reset="earliest",
        state_dir=str(Path(folder) / "state"),
        use_changelog_topics=way != "light",
        processing_guarantee="exactly-once" if way == "files" else "at-least-once",
        loglevel="ERROR",
        on_message_processed=read,
    )
    readings = app.topic(topic, timestamp_extractor=lambda value, *_: value["ts"])
    frame: Any = app.dataframe(readings).tumbling_window(60_000).collect().final().update(count)
    if way == "files":
        from quixstreams.sinks.community.file.local import LocalFileSink

        frame.sink(LocalFileSink(directory=str(Path(folder) / "windows"), format="parquet"))
    began = time.perf_counter()
    app.run(frame)
    seconds = time.perf_counter() - began
    if way == "files":
        from pyarrow import parquet

        files = (Path(folder) / "windows").rglob("*.parquet")
        written = sum(parquet.read_metadata(file).num_rows for file in files)
        if written != windows[0]:
            raise SystemExit(f"{written} windows in files of {windows[0]}")
    print(json.dumps({"seconds": seconds, "windows": windows[0]}))


if __name__ == "__main__":
    main()
