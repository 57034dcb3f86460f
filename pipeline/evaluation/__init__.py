"""How well scores tell incidents from normal operation: pure functions of numpy arrays, no files, no TensorFlow.

`metrics.evaluate` gives every figure of one scored stretch; `ranking`, `volume` and `alarms` hold what it is made of.
"""
