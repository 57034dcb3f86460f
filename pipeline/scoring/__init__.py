"""Live scoring: sensor topics in, alerts out, and the score files that the report reads.

`alerts` and `writer` import neither Kafka nor TensorFlow; `scorer` imports both when it runs.
"""
