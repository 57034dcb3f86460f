"""Quix Streams collecting one-minute windows of the benchmark's topic; runs in the environment that `ingestion.py` makes for it.

`python quix_windows.py BOOTSTRAP TOPIC MESSAGES FOLDER changelog|none` prints seconds and windows as one JSON object. Without changelog
topics its state does not outlive its machine.
"""

import json
import sys
import time
import uuid

from quixstreams import Application


def main() -> None:
    """Read, window, count."""
    bootstrap, topic, messages, folder, changelog = sys.argv[1:]
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
        state_dir=folder,
        use_changelog_topics=changelog == "changelog",
        loglevel="ERROR",
        on_message_processed=read,
    )
    readings = app.topic(topic, timestamp_extractor=lambda value, *_: value["ts"])
    frame = app.dataframe(readings).tumbling_window(60_000).collect().final().update(count)
    began = time.perf_counter()
    app.run(frame)
    print(json.dumps({"seconds": time.perf_counter() - began, "windows": windows[0]}))


if __name__ == "__main__":
    main()
