"""Settings of a gateway that has a region of AWS, a project of Google's, and credentials for both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.support.tokens import TokenServer, service_account


def settings(upstream: str, folder: Path, tokens: TokenServer) -> Mapping[str, str]:
    """Environment of a gateway whose clouds are all at `upstream`. `folder`: for the service account's file."""
    return {
        "AROUTER_PROVIDERS__BEDROCK__REGION": "eu-west-1",
        "AROUTER_PROVIDERS__BEDROCK__BASE_URL": upstream,
        "AROUTER_PROVIDERS__VERTEX__PROJECT": "demo",
        "AROUTER_PROVIDERS__VERTEX__BASE_URL": upstream,
        "AROUTER_PROVIDERS__VERTEX__CREDENTIALS_FILE": str(service_account(folder, f"{tokens.url}/token")),
        "AWS_ACCESS_KEY_ID": "AKIATESTS",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "session",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
