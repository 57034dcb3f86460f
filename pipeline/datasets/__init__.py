"""From window files or site files to runs, snapshots, shards and frames.

Imports TensorFlow only in `shards` and `frames`, never TFF.
"""
