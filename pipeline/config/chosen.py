"""Recipes as whole configurations, checked before a file is read or anything is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pipeline.config.change import changed
from pipeline.config.recipes import RECIPES, RecipeConfig
from pipeline.config.schema import Config
from pipeline.errors import ConfigError


def recipe_configs(config: Config, recipes: Mapping[str, RecipeConfig]) -> dict[str, Config]:
    """By name the settings that each recipe means.

    Raises:
      ConfigError: the settings of a recipe cannot go together; the message names it.
    """
    found = {}
    for name, recipe in recipes.items():
        try:
            found[name] = changed(config, recipe.changes)
        except ConfigError as error:
            raise ConfigError(f"recipe {name}: {error}") from None
    return found


def recipe_remarks(config: Config, recipes: Mapping[str, RecipeConfig]) -> list[str]:
    """What is odd about a choice of recipes: several that are one, and names that mean something else than usual."""
    alike: dict[str, list[str]] = {}
    for name, whole in recipe_configs(config, recipes).items():
        key = json.dumps([recipes[name].mode, whole.fingerprint_fields()], sort_keys=True)
        alike.setdefault(key, []).append(name)
    remarks = [
        f"{', '.join(names)} are recipes of equal settings, so their figures are equal and share a rank"
        for names in alike.values()
        if len(names) > 1
    ]
    own = [name for name in recipes if name in config.recipes and name in RECIPES]
    return [
        *remarks,
        *(f"recipe {name} is that of the configuration, not the built-in one of this name" for name in own),
    ]
