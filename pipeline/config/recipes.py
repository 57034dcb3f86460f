"""Recipes: settings under a name, for `fedplant backtest --recipe` to compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import Field

from pipeline.config.section import Section
from pipeline.errors import ConfigError


class RecipeConfig(Section):
    """Settings to compare under a name by `fedplant backtest --recipe NAME`; keys that it does not give are those of this file."""

    mode: Literal["federated", "local", "centralised", "zscore", "pca"] = Field(
        "federated", description="How it is trained; `zscore` and `pca` are the simple baselines."
    )
    model: dict[str, Any] = Field(default_factory=dict, description="Keys of `[model]` that differ.")
    training: dict[str, Any] = Field(default_factory=dict, description="Keys of `[training]` that differ.")
    detector: dict[str, Any] = Field(default_factory=dict, description="Keys of `[detector]` that differ.")

    @property
    def changes(self) -> dict[str, dict[str, Any]]:
        """What differs, by section."""
        found = {"model": self.model, "training": self.training, "detector": self.detector}
        return {section: values for section, values in found.items() if values}


LINEAR = ["ridge", "stiff_ridge", "pca", "excursion"]


def _sources(*names: str) -> RecipeConfig:
    return RecipeConfig(detector={"sources": list(names)})


RECIPES: dict[str, RecipeConfig] = {
    "default": RecipeConfig(),
    "linear": _sources(*LINEAR),
    "ridges": _sources("ridge", "stiff_ridge"),
    **{name: _sources(name) for name in (*LINEAR, "network")},
    "tcn": RecipeConfig(model={"architecture": "tcn"}),
    "autoencoder": RecipeConfig(model={"architecture": "autoencoder"}),
    "local": RecipeConfig(mode="local"),
    "centralised": RecipeConfig(mode="centralised"),
    "baseline_zscore": RecipeConfig(mode="zscore"),
    "baseline_pca": RecipeConfig(mode="pca"),
}
"""Those that need no configuration: the settings as they are; without the network; each source alone; by architecture; by way of
training; the simple baselines. A recipe of the file goes over one of the same name."""


def chosen_recipes(own: Mapping[str, RecipeConfig], asked: Iterable[str]) -> dict[str, RecipeConfig]:
    """The recipes of names, each of which may be several with commas between; one that is named twice counts once; those of `own`, the configuration, go before built-in ones.

    Raises:
      ConfigError: a name is unknown, or none is given.
    """
    known = {**RECIPES, **own}
    names = [name.strip() for text in asked for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        told = (
            f"--recipe {', '.join(unknown)}: unknown{_meant(unknown[0], known)}"
            if unknown
            else "--recipe: no name"
        )
        raise ConfigError(
            f"{told}; choose from {', '.join(known)}, or add [recipes.NAME] to the configuration"
        )
    return {name: known[name] for name in names}


def _meant(name: str, known: Iterable[str]) -> str:
    by_lower = {each.lower(): each for each in known}
    close = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.7)
    return f" (did you mean {by_lower[close[0]]}?)" if close else ""
