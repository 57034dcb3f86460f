from __future__ import annotations

from kafka import KafkaConsumer, KafkaProducer, TopicPartition


def test_what_was_produced_comes_back_in_order_and_whole(broker, make_topic):
    name = make_topic(partitions=2)
    large = b"x" * 6_000_000
    producer = KafkaProducer(
        bootstrap_servers=broker.bootstrap, enable_idempotence=True, acks="all", max_request_size=10_000_000
    )
    for number in range(100):
        producer.send(name, key=b"k", value=b"%d" % number, partition=1)
    producer.send(name, value=large, partition=0)
    producer.flush(60)
    producer.close()

    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap, consumer_timeout_ms=60_000, max_partition_fetch_bytes=10_000_000
    )
    consumer.assign([TopicPartition(name, 0), TopicPartition(name, 1)])
    consumer.seek_to_beginning()
    got = {0: [], 1: []}
    for record in consumer:
        got[record.partition].append(record.value)
        if len(got[0]) == 1 and len(got[1]) == 100:
            break
    consumer.close()
    assert got[1] == [b"%d" % number for number in range(100)]
    assert got[0] == [large]


def test_a_topic_nobody_created_does_not_appear_by_being_mentioned(broker, make_topic, topic):
    from kafka import KafkaAdminClient

    made, mentioned = make_topic(), topic("typo")
    consumer = KafkaConsumer(mentioned, bootstrap_servers=broker.bootstrap)
    consumer.poll(timeout_ms=500)
    consumer.close()
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    names = set(admin.list_topics())
    admin.close()
    assert made in names
    assert mentioned not in names
