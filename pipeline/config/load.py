"""Reads the configuration: TOML file, then environment variables over it, then every check at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ValidationError

from pipeline.config.instants import as_utc, parse_moment
from pipeline.config.leaveout import TABLES, refuse_unknown_sites
from pipeline.config.schema import Config
from pipeline.config.sites import SiteConfig
from pipeline.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "FEDPLANT_"
_FROM_FILES = "files"
_SECRET_KEYS = (
    "password",
    "secret",
    "token",
    "client_secret",
    "token_secret",
    "key_password",
    "sasl_password",
)


def load_config(
    path: Path, environment: Mapping[str, str] = os.environ, *, sites_from_files: bool = False
) -> Config:
    """The checked configuration in `path`, with relative paths resolved against the file's folder.

    An environment variable `FEDPLANT_<SECTION>__<KEY>` (for example `FEDPLANT_KAFKA__BOOTSTRAP`) goes over the file.
    With `sites_from_files` it need not name sites, because site files do; without any in it the one site is `files`.

    Raises:
      ConfigError: the file cannot be read, or one or more keys are refused; one line for each.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `fedplant init` writes one to start from") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    _refuse_secrets(raw, path)
    _apply_environment(raw, environment)
    _times_as_utc(raw, path)
    if sites_from_files:
        raw.setdefault("sites", [{"name": _FROM_FILES}])
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in _lines(error))) from None
    if not sites_from_files:
        try:
            refuse_unknown_sites(config.dataset, (site.name for site in config.sites))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
    return _resolve_paths(config, path.resolve().parent)


def file_config(path: Path | None) -> Config:
    """Settings for site files, which name the sites: those in `path`, or the defaults.

    Raises:
      ConfigError: as `load_config`.
    """
    if path is None:
        return Config(sites=[SiteConfig(name=_FROM_FILES)])
    return load_config(path, sites_from_files=True)


def named_sites(config: Config) -> tuple[str, ...]:
    """The sites that a configuration names, without the one that stands in for those of files."""
    return tuple(site.name for site in config.sites if site != SiteConfig(name=_FROM_FILES))


def _refuse_secrets(raw: Any, path: Path, at: str = "") -> None:
    if not isinstance(raw, dict):
        return
    for key, value in raw.items():
        if str(key).lower() in _SECRET_KEYS:
            raise ConfigError(
                f"{path}: {at}{key}: secrets do not belong in this file; "
                "use password_file, token_secret_file or key_password_file, or the environment variables FEDPLANT_KAFKA_PASSWORD, "
                "FEDPLANT_KAFKA_TOKEN_SECRET and FEDPLANT_KAFKA_KEY_PASSWORD"
            )
        _refuse_secrets(value, path, f"{at}{key}.")


def _apply_environment(raw: dict[str, Any], environment: Mapping[str, str]) -> None:
    for name, text in sorted(environment.items()):
        if not name.startswith(PREFIX) or "__" not in name:
            continue
        section, _, key = name[len(PREFIX) :].lower().partition("__")
        field = Config.model_fields.get(section)
        model = field.annotation if field else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)) or key not in model.model_fields:
            raise ConfigError(f"environment variable {name}: there is no key {section}.{key}")
        raw.setdefault(section, {})
        if isinstance(raw[section], dict):
            raw[section][key] = _toml_value(text)


def _times_as_utc(raw: dict[str, Any], path: Path) -> None:
    """Gives times of `[dataset]` the offset they lack, if `ingestion.time_zone` says which; what is no time or zone is refused later."""
    sections = [raw.get(name) for name in ("dataset", "ingestion")]
    dataset, ingestion = (section if isinstance(section, dict) else {} for section in sections)
    zone = ingestion.get("time_zone")
    _as_utc(dataset, "train_until", zone, f"{path}: dataset.train_until")
    for table in TABLES:
        stretches = dataset.get(table)
        for number, stretch in enumerate(stretches if isinstance(stretches, list) else ()):
            for key in ("from", "to"):
                if isinstance(stretch, dict):
                    _as_utc(stretch, key, zone, f"{path}: dataset.{table}.{number}.{key}")


def _as_utc(table: dict[str, Any], key: str, zone: Any, at: str) -> None:
    written = table.get(key)
    if zone is None:
        return
    try:
        moment = parse_moment(written)
        ZoneInfo(zone)
    except (ValueError, TypeError, KeyError, OSError):
        return
    try:
        table[key] = as_utc(moment, zone)
    except ValueError as error:
        raise ConfigError(f"{at} = {str(written)!r}: {error}") from None


def _toml_value(text: str) -> Any:
    """A number, boolean or list if the text is one in TOML, else the text itself."""
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text
    return value


def _lines(error: ValidationError) -> list[str]:
    """One line for each refused key; the alternatives of a key that takes several forms are joined."""
    messages: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        path = _key_path(problem["loc"])
        key = ".".join(path)
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            text = f"{key}: unknown key; allowed here: {', '.join(_allowed(problem['loc'][:-1]))}"
        elif problem["type"] == "missing":
            text = f"{key}: missing, but required"
        elif not path:
            text = message
        elif problem["loc"][-1] == "[key]":
            text = f"{key}: {message}"
        elif isinstance(problem["input"], (str, int, float, bool, list)):
            text = f"{key} = {problem['input']!r}: {message}"
        else:
            text = f"{key}: {message}"
        earlier = messages.setdefault(key, [])
        earlier.append(f"or {message}" if earlier else text)
    return ["; ".join(parts) for parts in messages.values()]


def _key_path(location: tuple[Any, ...]) -> list[str]:
    """The keys of a location as the user wrote them: pydantic also names the branch of a union, which we drop."""
    depth = 3 if location and location[0] in ("sites", "recipes") else 2
    if location[:2] in [("dataset", table) for table in TABLES]:
        depth = 4
    if len(location) >= depth and location[depth - 1] == "sensors":
        depth += 2
    return [str(part) for part in location[:depth] if part != "[key]"]


def _allowed(location: tuple[Any, ...]) -> list[str]:
    model: Any = Config
    for part in location:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        annotation = model.model_fields[part].annotation
        arguments = getattr(annotation, "__args__", None)
        model = arguments[-1] if arguments else annotation
    return sorted(info.alias or name for name, info in model.model_fields.items())


def _resolve_paths(config: Config, folder: Path) -> Config:
    """The same configuration with every relative path made absolute against `folder`."""
    sections = {}
    for name in type(config).model_fields:
        section = getattr(config, name)
        if isinstance(section, BaseModel):
            paths = {
                key: Path(os.path.normpath(folder / value.expanduser()))
                for key in type(section).model_fields
                if isinstance(value := getattr(section, key), Path)
            }
            sections[name] = section.model_copy(update=paths)
    return config.model_copy(update=sections)
