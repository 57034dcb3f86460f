"""Puts ingestion and models to work: configuration, datasets, training, evaluation, scoring, command line.

May import from `ingestion` and `models`; nothing there may import from here.
"""
