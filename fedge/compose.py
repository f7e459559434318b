"""Hydra meets code here and nowhere else: YAML groups and overrides in, one frozen RunConfig out.

`conf/` is plain YAML without `_target_`: configuration must not name code. Hydra composes, we decode strictly.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedge.config import RunConfig
from fedge.encoding import from_plain, to_plain
from fedge.errors import ConfigError

ROOT = "config"


def conf_folder() -> Path:
    """Return the folder of YAML groups: inside an installed package, or beside it in the repository."""
    package = Path(__file__).parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / f"{ROOT}.yaml").is_file():
            return folder
    raise ConfigError(f"the configuration folder conf/ is missing beside {package}; reinstall fedge")


def compose(overrides: Sequence[str] = ()) -> RunConfig:
    """Return the configuration that `overrides` (Hydra's grammar, e.g. `privacy.epsilon=4`) make of the defaults.

    Raises ConfigError naming the key or the group, what was expected, and what is near it.
    """
    _check_groups(overrides)
    try:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            composed = hydra_compose(ROOT, overrides=[_forced(o) for o in overrides])
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_readable(error)) from error
    return from_plain(RunConfig, plain, ConfigError)


def sweep(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """Return one list of overrides per point of a sweep: `seed=1,2 strategy=fedavg,fedadam` makes four."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(_readable(error)) from error
    choices = [_choices(override) for override in parsed]
    return [tuple(point) for point in itertools.product(*choices)]


def to_yaml(config: RunConfig) -> str:
    """Return `config` as YAML that `from_yaml` reads back to an equal value."""
    text: str = yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True)
    return text


def from_yaml(text: str) -> RunConfig:
    """Return the configuration that `to_yaml` wrote. Raises ConfigError."""
    try:
        plain = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"config.yaml cannot be read: {error}") from error
    return from_plain(RunConfig, plain, ConfigError)


def groups() -> dict[str, list[str]]:
    """Return the configuration groups and their options, e.g. {"task": ["cancer", "digits", ...]}."""
    folders = sorted(p for p in conf_folder().iterdir() if p.is_dir())
    return {f.name: sorted(p.stem for p in f.glob("*.yaml")) for f in folders}


def _check_groups(overrides: Sequence[str]) -> None:
    """Raise ConfigError for an option that a group does not have: Hydra would answer with its search path."""
    known = groups()
    for key, _, value in (override.partition("=") for override in overrides):
        if key in known and value not in known[key]:
            near = difflib.get_close_matches(value, known[key], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{key}: expected one of {', '.join(known[key])}; found {value!r}{hint}")


def _choices(override: Any) -> list[str]:
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [override.input_line]
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _forced(override: str) -> str:
    """Return `override` so that Hydra sets the key whether it stands in the YAML or not: our decoder knows all keys.

    Choices of groups are left as they are, and so is what already begins with Hydra's own `+` or `~`.
    """
    key, equals, _ = override.partition("=")
    if not equals or key.startswith(("+", "~")) or key in groups():
        return override
    return f"++{override}"


def _readable(error: Exception) -> str:
    """Return Hydra's message without its advice about features that fedge does not use."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [
        line for line in lines if not line.startswith(("full_key:", "object_type=", "reference_type=", "set the env"))
    ]
    text = " ".join(kept).replace("To append to your config use", "Known keys: fedge run --cfg job; Hydra suggests")
    return text or type(error).__name__
