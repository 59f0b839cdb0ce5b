"""The health of credentials, of several gateways together; and what a gateway says of itself."""

from __future__ import annotations

import pytest

from services.gateway.bulletin import bounded
from shared.books.provider_health import best, merged
from shared.contract.provider_state import CredentialState, Health, ProviderState
from shared.contract.running import GatewayState


def gateway(*providers: ProviderState) -> GatewayState:
    return GatewayState("host", 1, "digest", providers=providers)


def test_the_worst_view_is_shown_with_each_ones_own() -> None:
    healthy = CredentialState("main", Health.HEALTHY, 5, "", 10, 1)
    cooling = CredentialState("main", Health.COOLING, 7, "429", 20, 9)
    longer = CredentialState("main", Health.COOLING, 6, "reset", 1, 1)
    spare = CredentialState("spare", Health.OUT, 3, "401")
    found = merged(
        {
            "C": gateway(ProviderState("openai", ("openai_chat",), (longer, spare))),
            "A": gateway(ProviderState("openai", ("openai_embeddings",), (healthy,))),
            "B": gateway(ProviderState("openai", ("openai_chat",), (cooling,)), ProviderState("mine", ())),
        }
    )
    main, other = found
    assert (main.provider, main.name, main.dialects) == ("openai", "main", ("openai_chat", "openai_embeddings"))
    assert main.worst == CredentialState("main", Health.COOLING, 6, "reset", 31, 11)
    assert list(main.by_gateway.items()) == [("A", healthy), ("B", cooling), ("C", longer)]
    assert (main.differs, other.differs) == (True, False)
    assert best(one.worst.health for one in found) == Health.COOLING


@pytest.mark.parametrize(
    ("healths", "expected"),
    [(("out", "healthy", "cooling"), "healthy"), (("out", "cooling"), "cooling"), (("later", "cooling"), "cooling")],
)
def test_a_provider_is_as_healthy_as_its_best_credential(healths: tuple[str, ...], expected: str) -> None:
    assert best(healths) == expected


def test_what_is_said_is_bounded() -> None:
    many = tuple(CredentialState(str(number), Health.HEALTHY, 0) for number in range(3))
    providers = [ProviderState("one", (), many), ProviderState("two", (), many), ProviderState("three", (), many[:1])]
    assert bounded(providers, 6) == (providers[:2], 1)
    assert bounded(providers, 5) == (providers[:1], 4)
    assert bounded(providers, 7) == (providers, 0)
