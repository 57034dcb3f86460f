"""Fixtures for every room: one real broker for the whole session, and fresh ones for tests that kill it."""

from __future__ import annotations

import gc
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from ingestion.broker import EmbeddedBroker
from ingestion.broker.secured import secure
from tests.securing import SECRET, SecuredBroker

# Before anything imports TensorFlow, whose remarks would hide the reason of a failure.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Three workers share the cores: a second thread of the linear algebra waits for its turn by spinning, and costs three times the work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Dozens of tests start processes of their own; without bytecode on disk each compiles TensorFlow and TFF anew, for 14 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Imports and graphs are many objects and little garbage: looking through all of them costs a quarter of an import, so it is done less often.
gc.set_threshold(1000, 10, 200)

# The first example pays for imports, and a busy machine for its neighbours: time decides nothing in a property. Nor does chance, which would
# find in one run what it did not in the run before: `pytest --hypothesis-profile=search` looks for new examples.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("untimed", settings.get_profile("search"), derandomize=True, database=None)
settings.load_profile("untimed")

_counter = itertools.count(1)

LONGEST_FIRST = (
    "test_demo",
    "test_job",
    "test_run_every",
    "test_tune_kill",
    "test_logarithms",
    "test_ingest_other_clients",
    "test_unlike_sites",
    "test_ingest_broker_away",
    "test_detector",
    "test_poisoned_site",
    "test_linear_sources",
    "test_backtest",
    "test_odd_sites",
    "test_aggregation",
    "test_ingest_cut_log",
    "test_machines",
    "test_grouped",
    "test_training_kill",
    "test_training",
    "test_algorithms",
    "test_tune",
    "test_calibration",
    "test_security",
    "test_scoring_command",
    "test_ingest_kill",
    "test_scoring_interrupted",
    "test_scoring_live",
    "test_ingest_bounds",
    "test_broker_lifetime",
    "test_experience",
)
"""Files that take long; begun last, one of them would keep one worker busy while the others have nothing left."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Three workers for folders: on two cores one computes while another waits for a broker. One file needs none."""
    named = [argument for argument in config.args if not Path(argument.split("::")[0]).is_dir()]
    return 0 if named else 3


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long; within a file the order stays."""
    order = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was imported stays to the end: looking through it again and again for garbage costs a twentieth of the time."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Look for garbage a last time, not once for each module that the interpreter takes apart."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A real Apache Kafka shared by all tests: use unique topics and groups, never stop or kill it."""
    with EmbeddedBroker.start(
        tmp_path_factory.mktemp("broker"), extra_properties={"log.cleaner.backoff.ms": "500"}
    ) as running:
        yield running


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """A real broker that speaks TLS only, with users and rights (`tests/securing.py`), shared by all tests of security."""
    folder = tmp_path_factory.mktemp("secured")
    security = secure(folder, {"plain-user": SECRET})
    with EmbeddedBroker.start(folder, extra_properties=security.properties()) as running:
        yield SecuredBroker(running, security)


@pytest.fixture
def topic() -> Callable[..., str]:
    """`topic("orders")` gives a topic (or group, or site) name nobody else in this session uses; creates nothing."""
    return unique_name


def unique_name(prefix: str = "test") -> str:
    """A name unique within the session, legal as topic, group and site."""
    return f"{prefix}-{next(_counter)}"


@pytest.fixture
def make_topic(broker: EmbeddedBroker) -> Callable[..., str]:
    """`make_topic(partitions=4, name=None, configs=None)` creates a topic on the session's broker and returns its name."""

    def make(partitions: int = 1, name: str | None = None, configs: dict[str, str] | None = None) -> str:
        chosen = name or unique_name("topic")
        create_topic(broker.bootstrap, chosen, partitions=partitions, configs=configs)
        return chosen

    return make


def create_topic(
    bootstrap: str, name: str, *, partitions: int = 1, configs: dict[str, str] | None = None
) -> None:
    """Create a topic and return when every partition has a leader."""
    from kafka import KafkaAdminClient

    options: dict[str, Any] = {
        "num_partitions": partitions,
        "replication_factor": 1,
        "configs": configs or {},
    }
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.create_topics({name: options}, timeout_ms=120_000, wait_for_metadata=True)
    finally:
        admin.close()


@pytest.fixture
def fresh_broker(tmp_path: Path) -> Iterator[Callable[..., EmbeddedBroker]]:
    """`fresh_broker(**EmbeddedBroker.start options)` gives a broker of this test's own, to be killed at will (3-6 s: use sparingly)."""
    started: list[EmbeddedBroker] = []

    def start(data_dir: Path | None = None, **options: Any) -> EmbeddedBroker:
        folder = data_dir or tmp_path / f"broker-{len(started)}"
        started.append(EmbeddedBroker.start(folder, **options))
        return started[-1]

    yield start
    for running in started:
        running.stop()
