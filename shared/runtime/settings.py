"""The environment's border: settings come from the environment or a TOML file, and are read once.

Each service has one class derived from `Settings`. `load` turns whatever is wrong into one line.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import AliasChoices, BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource
from pydantic_settings.exceptions import SettingsError as SourceError

from shared.runtime.errors import SettingsError

TOML_FILE = "arouter.toml"
PREFIX = "AROUTER_"
EVERYWHERE = ":: or nothing for all addresses, of both families."
CONFIG = "AROUTER_CONFIG"  # names a file to read in place of ./arouter.toml


def _state_dir() -> Path:
    return Path("~/.local/state/arouter").expanduser()


class Settings(BaseSettings):
    """What every service reads. The environment goes before the file: `arouter.toml` in the working directory,
    or the one that `AROUTER_CONFIG` names."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="ignore",  # one environment serves all services, each of which reads its own part
        frozen=True,
        hide_input_in_errors=True,  # a mistyped credential must not be echoed
    )
    RELOADED: ClassVar[frozenset[str]] = frozenset()  # fields that a running process takes on
    OLD_NAMES: ClassVar[Mapping[str, str]] = {}  # of fields that were renamed, to the name they have now

    redis_url: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("REDIS_URL", "AROUTER_REDIS_URL", "redis_url"),
        description="Redis >= 7.0 or Valkey >= 8; redis+cluster:// names a node of a Redis Cluster. "
        "Unset: an embedded server in the data folder.",
    )
    data_dir: Path = Field(
        default_factory=_state_dir, description="Folder of the embedded server: its append-only file, socket and lock."
    )
    embedded_server: Path | None = Field(
        default=None,
        description="Binary of the embedded server. Unset: valkey-server or redis-server >= 7.0 on the PATH, else the "
        "one of arouter[embedded].",
    )
    shards: int = Field(
        default=16, ge=1, le=1024, description="Tail streams that new exchanges are spread over. Same on every process."
    )
    key_pepper: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="Secret under which keys are hashed. Unset: made once and kept in Redis, with a warning.",
    )
    journal_keep: float = Field(
        default=60,
        ge=1,
        description="How long the journal keeps what Redis has taken, to send it again; followers of the ledger go "
        "back by as much, and a minute, after Redis has changed. Same on every process.",
    )
    seal_keys_file: Path | None = Field(
        default=None,
        description="File of keys under which the text of answers and requests is sealed on its way from gateways to "
        "meters, in journals and in Redis: one a line, made by `arouter seal-key`. The first one seals, all of them "
        "open. Meters get it first. Unset: nothing is sealed (docs/privacy.md).",
    )
    log_level: str = Field(
        default="info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error."
    )
    log_format: Literal["text", "json"] = Field(default="text", description="text or json.")
    access_log: bool = Field(
        default=False,
        description="Log a line for each exchange: gateways as it ends, and for each request that was refused; meters "
        "as it is booked, with how its answer ended.",
    )

    def reloaded(self, now: Self) -> Self:
        """These settings, with what a reload changes as it is in `now`."""
        return self.model_copy(update={name: getattr(now, name) for name in self.RELOADED})

    def restart_for(self, now: Self) -> tuple[str, ...]:
        """The variables that differ in `now`, and that only a restart changes."""
        fields = (name for name in type(self).model_fields if name not in self.RELOADED)
        return tuple(sorted(variable((name,)) for name in fields if getattr(self, name) != getattr(now, name)))

    def reloaded_files(self) -> list[Path]:
        """The files that a reload reads: the settings file, and those that it names."""
        return [settings_file(), *(path for name in sorted(self.RELOADED) for path in named_files(getattr(self, name)))]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # pydantic-settings passes all
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = TomlConfigSettingsSource(settings_cls, toml_file=config_file())
        return init_settings, env_settings, file, _OldNames(settings_cls, cls.OLD_NAMES)

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Read the environment and the file. SettingsError, one line, names the first error."""
        try:
            return cls(**overrides)  # type: ignore[arg-type]  # pydantic validates them
        except ValidationError as exc:
            first = exc.errors()[0]
            raise SettingsError(f"{variable(first['loc'])}: {first['msg'].removeprefix('Value error, ')}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as exc:
            raise SettingsError(f"{config_file()}: {_one_line(exc)}") from None
        except (SourceError, ValueError) as exc:  # a value that is not JSON
            raise SettingsError(_one_line(exc)) from None


def use_config(path: Path) -> None:
    """Read this file in place of `arouter.toml`, in this process and in those it starts.

    SettingsError where there is no such file.
    """
    os.environ[CONFIG] = str(_existing(path, "--config").absolute())  # noqa: TID251  # that border


def config_file() -> Path:
    """The file to read settings from. `arouter.toml` may be missing; SettingsError where a file that is named is."""
    named = os.environ.get(CONFIG)  # noqa: TID251
    return _existing(Path(named), CONFIG) if named else Path(TOML_FILE)


def settings_file() -> Path:
    """The same, whether it is there or not."""
    return Path(os.environ.get(CONFIG) or TOML_FILE).expanduser()  # noqa: TID251


def named_files(value: object) -> list[Path]:
    """Every path in the value of a setting, which may be a block of settings, or many."""
    if isinstance(value, Path):
        return [value]
    if isinstance(value, BaseModel):
        return [path for _, part in value for path in named_files(part)]
    if isinstance(value, Mapping):
        return [path for part in value.values() for path in named_files(part)]
    if isinstance(value, list | tuple):
        return [path for part in value for path in named_files(part)]
    return []


def _existing(path: Path, named_by: str) -> Path:
    path = path.expanduser()
    if not path.is_file():
        raise SettingsError(f"{named_by}: there is no file {path}")
    return path


def variable(location: tuple[int | str, ...]) -> str:
    """The environment variable of a field, by pydantic's location of it."""
    name = "__".join(str(part) for part in location).upper()
    return name if name == "REDIS_URL" or name.startswith(PREFIX) else PREFIX + name


def unknown_variables(*services: type[Settings]) -> list[str]:
    """Names in the environment or the file that start as ours do but that no service reads: most likely misspelt."""
    known = {
        CONFIG,
        *(variable((name,)) for service in services for name in (*service.model_fields, *service.OLD_NAMES)),
    }
    blocks = tuple(f"{PREFIX}{name.upper()}__" for service in services for name in service.model_fields)
    given = (variable((name,)) for name in _given())
    return sorted(name for name in given if name not in known and not name.startswith(blocks))


def old_variables(*services: type[Settings]) -> dict[str, str]:
    """Variables, in the environment or the file, that have another name now: the old one to the new one."""
    renamed = {old: new for service in services for old, new in service.OLD_NAMES.items()}
    return {variable((old,)): variable((renamed[old],)) for old in _given() if old in renamed}


class _OldNames(PydanticBaseSettingsSource):
    """Settings under names they had before, below everything that is said under their present names."""

    def __init__(self, settings_cls: type[BaseSettings], old_names: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._old_names = old_names

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError  # pydantic calls this per field only from its own sources

    def __call__(self) -> dict[str, Any]:
        given = _given() if self._old_names else {}
        return {new: given[old] for old, new in self._old_names.items() if old in given}


def _given() -> dict[str, Any]:
    """Everything in the environment or the file that is named as ours is, by field name; the environment goes first."""
    path = config_file()
    given = tomllib.loads(path.read_text()) if path.exists() else {}
    for name, value in os.environ.items():  # noqa: TID251
        if name.upper().startswith(PREFIX):
            given[name.upper().removeprefix(PREFIX).lower()] = value
    return given


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def own_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with changes, for a process started by it."""
    return {**os.environ, **changes}  # noqa: TID251
