"""What is learned and what is served: architectures, scaling, calibration, detectors, SavedModel export.

Imports nothing from `ingestion` or `pipeline`, and no Kafka.
"""
