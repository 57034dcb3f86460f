"""What a running ingestion shows of itself, from its parts."""

from collections.abc import Mapping

from confluent_kafka import Consumer, TopicPartition

from ingestion.consuming.assignment import Assignment
from ingestion.counts import SiteCounts
from ingestion.observation import PartitionView, View
from ingestion.worker import Worker


def view(
    assignment: Assignment, worker: Worker, consumer: Consumer, counts: Mapping[str, SiteCounts]
) -> View:
    """Open partitions, counts and publish times now; asks nobody."""
    parts = []
    for place, position in assignment.position.items():
        lane = worker.lanes.get(place)
        if lane is None:
            continue
        _, end = consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
        gathering, mark = list(lane.windows.open.values()), lane.windows.watermark
        parts.append(
            PartitionView(
                lane.site.name,
                *place,
                position,
                end if end >= 0 else None,
                mark if mark > 0 else None,
                len(gathering),
                sum(window.rows for window in gathering),
            )
        )
    found = {site: counted.to_dict() for site, counted in counts.items()}
    return View(tuple(parts), found, worker.publishing.copy())
