"""How many cases of the relay's contract ran on each of its paths."""

from collections import Counter

RAN: Counter[str] = Counter()
