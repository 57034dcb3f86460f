"""How one training is spread over the sites: process, rounds, checkpoints, runtime.

The only place that imports TensorFlow Federated.
"""
