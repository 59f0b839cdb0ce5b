"""What the commands that run a service share: their settings, and the beginning of their processes."""

from __future__ import annotations

import argparse
import logging
import signal
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from services.control.settings import ControlSettings
from services.gateway.settings import GatewaySettings
from services.meter.settings import MeterSettings
from services.sinks.settings import SinkSettings
from shared.runtime import logs
from shared.runtime.settings import Settings, old_variables, unknown_variables

T = TypeVar("T", bound=Settings)

log = logging.getLogger(__name__)

SETTINGS: tuple[type[Settings], ...] = (GatewaySettings, MeterSettings, ControlSettings, SinkSettings)


def begin(settings: Settings) -> None:
    """Begin the process of a service: its logs, and a warning for each setting that does nothing."""
    logs.configure(settings.log_level, settings.log_format)
    signal.signal(signal.SIGHUP, _hung_up)
    for sentence in odd_settings(settings):
        log.warning(sentence)


def reread(load: Callable[[], T]) -> T:
    """Settings for a reload, with a warning for each that does nothing."""
    settings = load()
    for sentence in odd_settings(settings):
        log.warning(sentence)
    return settings


def given(arguments: argparse.Namespace, **fields: str) -> dict[str, object]:
    """The settings that the command line names, by field."""
    values = {field: getattr(arguments, name) for field, name in fields.items()}
    return {field: value for field, value in values.items() if value is not None}


def odd_settings(settings: Settings) -> list[str]:
    """A sentence for every variable that does nothing, or that has another name now."""
    unknown = [f"{name} is not a setting of any service; it does nothing" for name in unknown_variables(*SETTINGS)]
    renamed = old_variables(*SETTINGS) | (settings.old_values() if isinstance(settings, GatewaySettings) else {})
    return [*unknown, *(f"{old} is now {new}; the old name will go" for old, new in renamed.items())]


def _hung_up(signum: int, frame: FrameType | None) -> None:
    """Before there is anything to reload, and in a control plane, which reloads nothing."""
    log.warning("SIGHUP changes nothing here: gateways and meters reload once they run")
