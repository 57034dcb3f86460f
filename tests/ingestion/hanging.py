"""An ingestion whose disk or commits can be made to hang, that says when it pauses, and whose clock for silence tests can put forward."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import ingestion.consumer
import ingestion.consuming.assignment
import ingestion.store
from ingestion.consumer import Progress, ingest
from tests.waiting import HANGS, wait_for


class Watched:
    """An endless ingestion in a thread, whose disk and commits hang while these events are not set, and whose worker takes `slow` seconds of
    its clock for each batch while it is paused; `ended` has the (partition, offset) behind which the broker had nothing, `rounds` how often the
    loop committed, and what it raises lands in `raised`."""

    def __init__(self, settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.disk, self.commits = threading.Event(), threading.Event()
        self.slow, self._ahead = 0.0, 0.0
        self.events, self.positions = list[str](), dict[int, int]()
        self.ended, self.rounds = set[tuple[int, int]](), 0
        self.raised: list[BaseException] = []
        self.disk.set()
        self.commits.set()
        self._stop = threading.Event()
        sync, watched = ingestion.store.sync_folder, self

        def when_told(folder: Path) -> None:
            watched.disk.wait(HANGS)
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

        class Worker(ingestion.consumer.Worker):
            def _batch(self, *given) -> None:
                if watched.slow:
                    wait_for(lambda: "pause" in watched.events)
                    if watched.events[-1] == "pause":
                        watched.forward(watched.slow)
                        rounds = watched.rounds
                        wait_for(lambda: watched.rounds > rounds + 1)
                super()._batch(*given)

        class Assignment(ingestion.consumer.Assignment):
            def end_seen(self, place, offset: int) -> None:
                super().end_seen(place, offset)
                watched.ended.add((place[1], offset))

        clock = SimpleNamespace(monotonic=lambda: time.monotonic() + watched._ahead)
        monkeypatch.setattr(ingestion.consumer, "time", clock)
        monkeypatch.setattr(ingestion.consuming.assignment, "time", clock)
        monkeypatch.setattr(ingestion.consumer, "Assignment", Assignment)
        monkeypatch.setattr(ingestion.consumer, "Worker", Worker)
        monkeypatch.setattr(ingestion.store, "sync_folder", when_told)
        monkeypatch.setattr(ingestion.consumer, "Consumer", Consumer)
        monkeypatch.setattr(ingestion.consumer, "_HOLD_SECONDS", 0.05)
        self._thread = threading.Thread(target=self._run, args=(settings,))
        self._thread.start()

    def forward(self, seconds: float) -> None:
        """Let so much time have passed."""
        self._ahead += seconds

    def _run(self, settings) -> None:
        def told(at: Progress) -> None:
            self.rounds += 1
            self.positions.update({p.partition: p.position for p in at.view.partitions} if at.view else {})

        try:
            ingest(settings, until=None, progress=told, stop=self._stop)
        except BaseException as error:
            self.raised.append(error)

    def end(self) -> None:
        self.disk.set()
        self.commits.set()
        self._stop.set()
        self._thread.join(HANGS)
        assert not self._thread.is_alive()
