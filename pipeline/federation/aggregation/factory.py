"""The configured aggregation as a TFF factory."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from pipeline.federation.aggregation.robust import Median, MultiKrum, RobustFactory, TrimmedMean
from pipeline.federation.settings import ADAPTIVE, TrainingSettings

_SMALL = 1_000
"""Tensors of at most so many numbers are sent as they are: compressing a bias saves nothing."""


def aggregation(settings: TrainingSettings, weight_specs: list[tf.TensorSpec], population: int) -> Any:
    """Give the factory: weighted, or unweighted where noise is added.

    Args:
      settings: checked, see `pipeline.federation.rules`.
      weight_specs: of the update.
      population: sites that there are; a round has `settings.sites_per_round` of them, or all.
    """
    if settings.privacy != "none":
        return _private(
            settings, weight_specs, float(min(settings.sites_per_round or population, population))
        )
    factory = _combining(settings)
    if settings.clip_updates is None:
        return factory
    norm: Any = settings.clip_updates
    if norm == ADAPTIVE:
        # As in TFF's own robust aggregator: near the 0.8 quantile of the norms, doubling in a few rounds (Andrew et al. 2021).
        norm = tff.aggregators.PrivateQuantileEstimationProcess.no_noise(
            initial_estimate=1.0, target_quantile=0.8, learning_rate=0.2
        )
    return tff.aggregators.clipping_factory(norm, factory)


def _combining(settings: TrainingSettings) -> Any:
    if settings.aggregation == "median":
        return RobustFactory(Median())
    if settings.aggregation == "trimmed_mean":
        return RobustFactory(TrimmedMean(settings.trimmed_share))
    if settings.aggregation == "krum":
        return RobustFactory(MultiKrum(settings.malicious_sites))
    if settings.compression_bits is not None:
        return tff.aggregators.MeanFactory(
            value_sum_factory=tff.aggregators.EncodedSumFactory.quantize_above_threshold(
                quantization_bits=settings.compression_bits, threshold=_SMALL
            )
        )
    return tff.aggregators.MeanFactory()


def _private(settings: TrainingSettings, weight_specs: list[tf.TensorSpec], clients: float) -> Any:
    private = tff.aggregators.DifferentiallyPrivateFactory
    if settings.privacy == "gaussian_adaptive":
        # The count of clipped sites is noisy too; a twentieth of few sites would leave no noise multiplier for the updates.
        return private.gaussian_adaptive(
            settings.noise_multiplier,
            clients,
            initial_l2_norm_clip=1.0,
            clipped_count_stddev=max(0.05 * clients, settings.noise_multiplier),
        )
    assert isinstance(settings.clip_updates, float)
    if settings.privacy == "gaussian":
        return private.gaussian_fixed(settings.noise_multiplier, clients, settings.clip_updates)
    return private.tree_aggregation(
        settings.noise_multiplier, clients, settings.clip_updates, tuple(weight_specs)
    )
