"""An ingestion whose disk or commits can be made to hang, and that says when it pauses."""

import threading
import time
from pathlib import Path

import pytest

import ingestion.consumer
import ingestion.store
from ingestion.consumer import Progress, ingest


class Watched:
    """An endless ingestion in a thread, whose disk and commits hang while these events are not set, and whose disk takes `slow` seconds
    more; what it raises lands in `raised`."""

    def __init__(self, settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.disk, self.commits = threading.Event(), threading.Event()
        self.slow = 0.0
        self.events, self.positions = list[str](), dict[int, int]()
        self.raised: list[BaseException] = []
        self.disk.set()
        self.commits.set()
        self._stop = threading.Event()
        sync, watched = ingestion.store.sync_folder, self

        def when_told(folder: Path) -> None:
            watched.disk.wait(30)
            time.sleep(watched.slow)
            sync(folder)

        class Consumer(ingestion.consumer.Consumer):
            def pause(self, partitions) -> None:
                watched.events.append("pause")
                super().pause(partitions)

            def resume(self, partitions) -> None:
                watched.events.append("resume")
                super().resume(partitions)

            def commit(self, **given):
                if not watched.commits.is_set():
                    watched.events.append("hangs")
                    watched.commits.wait(8)
                return super().commit(**given)

        monkeypatch.setattr(ingestion.store, "sync_folder", when_told)
        monkeypatch.setattr(ingestion.consumer, "Consumer", Consumer)
        monkeypatch.setattr(ingestion.consumer, "_HOLD_SECONDS", 0.05)
        self._thread = threading.Thread(target=self._run, args=(settings,))
        self._thread.start()

    def _run(self, settings) -> None:
        def told(at: Progress) -> None:
            self.positions.update({p.partition: p.position for p in at.view.partitions} if at.view else {})

        try:
            ingest(settings, until=None, progress=told, stop=self._stop)
        except BaseException as error:
            self.raised.append(error)

    def end(self) -> None:
        self.disk.set()
        self.commits.set()
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()
