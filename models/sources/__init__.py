"""Residual sources: each says, sensor by sensor, how far a step is from what was expected. One file each.

A source works on scaled frames in TensorFlow, so that the pipeline and the exported model run the same arithmetic.
"""
