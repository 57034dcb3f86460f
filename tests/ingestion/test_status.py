"""A look at positions waits for a cluster that is not ready to tell them, and for nothing else."""

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from ingestion.status import _committed


class Young:
    """A cluster that answers after so many refusals."""

    def __init__(self, refusals: list[int]) -> None:
        self.refusals = refusals

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        if self.refusals:
            raise KafkaException(KafkaError(self.refusals.pop(0)))
        return places


def test_a_cluster_that_still_makes_its_offsets_topic_is_asked_again():
    soon = [KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS]
    assert [place.partition for place in _committed(Young(soon), "t", [0, 1], 5.0)] == [0, 1]


@pytest.mark.parametrize(
    ("refusals", "timeout"),
    [([KafkaError.NOT_COORDINATOR] * 99, 0.3), ([KafkaError.GROUP_AUTHORIZATION_FAILED], 5.0)],
)
def test_what_does_not_pass_is_told(refusals, timeout):
    with pytest.raises(KafkaException):
        _committed(Young(refusals), "t", [0], timeout)
