"""The `[training]` section."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from pipeline.config.section import Section
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.federation.settings import TrainingSettings


_NOT_OF_ROUNDS = {
    "compare",
    "statistics_noise",
    "statistics_unit",
    "statistics_norm",
    "personalise",
    "personal_epochs",
    "personal_strength",
    "clusters",
}


class TrainingConfig(Section):
    """How the sites learn together. Combinations that make no sense are refused with the reason."""

    rounds: int = Field(20, ge=1, le=10_000, description="Most rounds.")
    algorithm: Literal[
        "fedavg", "fedprox", "fedadam", "fedyogi", "fedadagrad", "fedavgm", "mimelite", "scaffold"
    ] = Field(
        "fedavg",
        description="How the sites' work becomes one model; one file each in `pipeline/federation/algorithms/`.",
    )
    local_epochs: int = Field(
        1, ge=1, le=100, description="Passes over its own frames that a site makes per round."
    )
    local_steps: int | None = Field(
        None, ge=1, description="Exactly so many optimiser steps a site makes per round, in place of epochs."
    )
    batch: int = Field(32, ge=1, le=65_536, description="Frames per optimiser step.")
    max_steps: int | None = Field(
        None, ge=1, description="Most optimiser steps a site makes per round; default: all its frames."
    )
    stride: int | Literal["auto"] = Field(
        "auto", description="Steps between the starts of two training frames; `auto` is half the frame."
    )
    client_optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="Optimiser at the sites.")
    client_learning_rate: float = Field(1e-3, gt=0, le=10, description="Its learning rate, at its highest.")
    weight_decay: float = Field(0.01, ge=0, le=1, description="Of `adamw`.")
    schedule: Literal["constant", "cosine", "exponential"] = Field(
        "constant", description="The learning rate over the rounds; `cosine` falls to 0 after `rounds`."
    )
    warmup_rounds: int = Field(0, ge=0, description="Rounds in which the learning rate rises to its highest.")
    learning_rate_decay: float = Field(
        0.95, gt=0, le=1, description="Factor a round under the `exponential` schedule."
    )
    clip_gradients: float | None = Field(None, gt=0, description="Largest norm of the gradient of a step.")
    server_learning_rate: float | None = Field(
        None,
        gt=0,
        le=10,
        description="Step along the combined update; default: the algorithm's own, 1 for `fedavg`.",
    )
    server_momentum: float = Field(0.9, ge=0, lt=1, description="Of `fedavgm`.")
    proximal_strength: float = Field(
        0.01, ge=0, description="How strongly `fedprox` holds sites near the common model."
    )
    weighting: Literal["auto", "frames", "site", "capped"] = Field(
        "auto",
        description="What a site's update weighs: its frames, the same as any other's, or its frames up to `weight_cap`; "
        "`auto` is by frames where algorithm and protection allow it.",
    )
    weight_cap: int = Field(1_000, ge=1, description="Most frames that count under `capped`.")
    sites_per_round: int | None = Field(
        None, ge=1, description="So many sites, drawn anew, take part in a round; default: all."
    )
    aggregation: Literal["mean", "median", "trimmed_mean", "krum"] = Field(
        "mean", description="How updates are combined; all but `mean` bear a minority of bad sites."
    )
    trimmed_share: float = Field(
        0.2, ge=0, lt=0.5, description="Share of values that `trimmed_mean` drops at either end."
    )
    malicious_sites: int = Field(1, ge=0, description="Bad sites that `krum` expects in a round.")
    clip_updates: float | Literal["adaptive"] | None = Field(
        None, description="Largest norm of a site's update; `adaptive` follows the norms of all sites."
    )
    privacy: Literal["none", "gaussian", "gaussian_adaptive", "tree"] = Field(
        "none",
        description="Noise on the sum of updates that hides any one site; the budget stands in the result.",
    )
    noise_multiplier: float = Field(
        1.0,
        gt=0,
        description="Standard deviation of the noise, in units of the norm that updates are clipped to.",
    )
    delta: float = Field(1e-5, gt=0, lt=1, description="For which the privacy budget epsilon is told.")
    compression_bits: int | None = Field(
        None, ge=1, le=16, description="Bits a number of an update is sent in; default: all 32."
    )
    patience: int = Field(
        3, ge=1, description="Rounds without improvement of the federated validation before stopping."
    )
    min_improvement: float = Field(
        0.003, ge=0, lt=1, description="Smallest relative improvement of the validation that counts."
    )
    seed: int = Field(1, ge=0, description="Seed of weights, shuffling and the choice of sites.")
    statistics_noise: float | None = Field(
        None,
        gt=0,
        description="Gaussian noise on the sum of statistics that linear sources share, in units of what one reading or site changes it; "
        "default: the exact sum. The budget stands in the manifest.",
    )
    statistics_unit: Literal["row", "site"] = Field(
        "row",
        description="What that noise hides: one reading, or all of a site, which takes hundreds of sites.",
    )
    statistics_norm: float | None = Field(
        None,
        gt=0,
        description="Longest row of statistics, in scales; longer ones are shortened. Default: 1.5 times that of a typical row.",
    )
    personalise: Literal["none", "fine_tune", "head", "ditto"] = Field(
        "none",
        description="After the last round a site goes on with the network by itself: with all weights, the last layer, or all held near "
        "the common ones; kept where its validation is better. The detector serves each site with its own.",
    )
    personal_epochs: int = Field(
        3, ge=1, le=1000, description="Passes over its frames that a site then makes."
    )
    personal_strength: float = Field(0.1, ge=0, description="How strongly `ditto` holds a site.")
    clusters: int = Field(
        1,
        ge=1,
        description="So many groups of sites, by the likeness of their updates, go on from the common network with one each.",
    )
    compare: bool = Field(
        True, description="Also train local-only and centralised models, to show what federation buys."
    )

    @model_validator(mode="after")
    def _sense(self) -> TrainingConfig:
        try:
            self.settings(frame_steps=2)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        own = "personalise" if self.personalise != "none" else "clusters" if self.clusters > 1 else None
        if own and self.privacy != "none":
            raise ValueError(
                f"{own} = {getattr(self, own)!r} with privacy = {self.privacy!r}: models of sites or groups go into the detector without "
                "that noise, so the budget would be untrue; choose one"
            )
        if self.personalise != "none" and self.clusters > 1:
            raise ValueError(
                f"personalise = {self.personalise!r} with clusters = {self.clusters}: a site has its own model or its group's; choose one"
            )
        return self

    def settings(self, frame_steps: int) -> TrainingSettings:
        """These keys as the training takes them, for frames of `frame_steps`.

        Raises:
          ConfigError: a combination makes no sense.
        """
        from pipeline.federation.settings import TrainingSettings

        values = self.model_dump(exclude=_NOT_OF_ROUNDS)
        if values["stride"] == "auto":
            values["stride"] = max(1, frame_steps // 2)
        return TrainingSettings(**values)
