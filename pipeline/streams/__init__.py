"""The configured sites' Kafka side: which cluster, topics into windows, live scoring, replay of recorded plants.

Imports no TensorFlow before a detector is loaded, and nothing of training.
"""
