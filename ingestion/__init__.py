"""From bytes on Kafka to closed, immutable windows on disk.

Imports no TensorFlow and nothing from `models` or `pipeline`; both may import from here (only `pipeline` does).
"""
