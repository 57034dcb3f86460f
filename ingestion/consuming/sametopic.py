"""Whether a topic is still the one whose records were read.

A topic that is deleted and created again has the old name and another id, and the client reads on in it. Ids never come
back: if a look that began after a record was read finds the old id, the record is the old topic's. So nothing is published
before such a look.
"""

import threading
import time
from collections.abc import Collection, Iterable

from confluent_kafka import KafkaException

from ingestion.consuming.patience import REFUSED
from ingestion.errors import ContinuityError
from ingestion.settings import IngestSettings
from ingestion.tasks import Ending
from ingestion.topics import Topics
from ingestion.unreachable import unavailable

_ASKING_SECONDS = 2.0
_AGAIN_SECONDS = 0.2


class SameTopic:
    """Looks are shared between the threads that ask. `ids` is what was learned last, by topic."""

    def __init__(self, settings: IngestSettings, topics: Topics, stop: threading.Event) -> None:
        self._topics, self._stop = topics, stop
        self._bootstrap, self._timeout = settings.bootstrap, settings.limits.broker_timeout
        self._names = [site.topic for site in settings.sites]
        self._seen: dict[str, str | None] = {}
        self._looked: dict[str, float] = {}
        self._one = threading.Lock()
        self.cluster = topics.cluster_id()
        self.ids: dict[str, str] = {}

    def learn(self, timeout: float | None = None) -> set[str]:
        """Ask for the ids of all topics; returns the names that do not exist. Raises KafkaException."""
        self.ids = self._topics.ids(self._names, timeout)
        return set(self._names) - self.ids.keys()

    def check(self, known: Collection[tuple[str, str]], since: float) -> None:
        """Look at these topics, given with their known ids, unless that was done after `since` (monotonic s), and compare.

        A topic that is gone is no other topic. Raises ContinuityError naming one with another id, KafkaException.
        """
        with self._one:
            stale = {topic for topic, _ in known if self._looked.get(topic, -1.0) <= since}
            if stale:
                self._look(stale)
            found = [(topic, expected, self._seen.get(topic)) for topic, expected in known]
        for topic, expected, current in found:
            if current is not None and current != expected:
                raise ContinuityError(
                    f"topic {topic} was created again while it was read (id {expected} before, {current} now): "
                    "start again with --new-topic to read it beside the old windows"
                )

    def assure(self, topic: str, topic_id: str, since: float) -> None:
        """As `check` of one topic, but wait for a broker that is away. Raises Ending when the process has to end, BrokerUnavailable."""
        end = time.monotonic() + self._timeout
        while True:
            if self._stop.is_set():
                raise Ending
            try:
                return self.check([(topic, topic_id)], since)
            except KafkaException as error:
                if error.args[0].code() in REFUSED or time.monotonic() > end:
                    raise unavailable(self._bootstrap, error, topic) from error
            self._stop.wait(_AGAIN_SECONDS)

    def _look(self, topics: Iterable[str]) -> None:
        began = time.monotonic()
        found = self._topics.ids(topics, _ASKING_SECONDS)
        for topic in topics:
            self._seen[topic], self._looked[topic] = found.get(topic), began
