"""English for people who watch the demo: `say=N` answers with the N-th sentence, one word a token. Pure."""

from __future__ import annotations

from itertools import cycle, islice

SENTENCES = (
    "This is the demo provider: give the gateway a credential of a real one to hear a model.",
    "Each piece of this answer is passed on as it arrives, byte for byte.",
    "Your client keeps its SDK and changes only the base URL and the key.",
    "Tokens are counted beside the stream, so that counting costs no time.",
    "What the provider reports is booked exactly once, whatever is killed.",
    "Where a provider reports nothing, the tokens are counted and marked.",
    "Even a JSON array streams: each element leaves as soon as it is here.",
    "This provider breaks off in the middle, so that you never read the end of this sentence.",
)


def tokens(number: int) -> int:
    """How many tokens the sentence has. ValueError where there is no such sentence."""
    return len(_sentence(number).split())


def words(number: int, count: int) -> list[str]:
    """The sentence as `count` tokens, over and over where it is shorter."""
    return [word + " " for word in islice(cycle(_sentence(number).split()), count)]


def _sentence(number: int) -> str:
    if not 1 <= number <= len(SENTENCES):
        raise ValueError(f"say={number}: there are sentences 1 to {len(SENTENCES)}")
    return SENTENCES[number - 1]
