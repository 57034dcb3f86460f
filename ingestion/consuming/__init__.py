"""The parts of the Kafka loop (`ingestion.consumer`): which partitions are ours, what is handed to the worker, what is
committed, whether a topic is still the same, and when reading is over. Only the loop imports from here."""
