"""What a running FedPlant shows to the outside: Prometheus metrics and structured logs.

May be imported by every part of `pipeline`; imports none of them but `pipeline.errors`.
"""
