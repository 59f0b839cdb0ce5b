"""The settings of a control plane in a process of its own."""

from __future__ import annotations

from pydantic import Field, field_validator

from shared.contract.paths import base_path
from shared.runtime.settings import EVERYWHERE, Settings


class ControlSettings(Settings):
    """What `arouter control` reads. A gateway that serves the control plane on its own port needs none of it."""

    control_host: str = Field(default="127.0.0.1", description=f"Address `arouter control` listens on. {EVERYWHERE}")
    control_port: int = Field(default=8081, ge=0, le=65535, description="Port `arouter control` listens on.")
    control_base_path: str = Field(
        default="", description="Path that a proxy in front keeps: AROUTER_BASE_PATH for `arouter control`."
    )
    control_providers: str = Field(
        default="",
        description="Providers a key may be restricted to, comma-separated. Unset: those that this process's "
        "environment configures for gateways.",
    )

    @field_validator("control_base_path")
    @classmethod
    def _absolute_path(cls, value: str) -> str:
        return base_path(value)

    def provider_names(self, configured: frozenset[str]) -> frozenset[str]:
        """The providers a key may be restricted to: those that are named, else `configured`."""
        named = frozenset(filter(None, map(str.strip, self.control_providers.split(","))))
        return named or configured
