"""How well scores tell incidents from normal operation.

`metrics.evaluate` gives every figure of one scored stretch; `ranking`, `volume` and `alarms` hold what it is made of: pure
functions of numpy arrays. `judging` holds detectors against labelled runs.
"""
