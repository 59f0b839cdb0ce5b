"""`make scale`: the roll-out, with its time line."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.scale.fleet import Fleet
from tests.scale.rollout import rollout

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="ar") as folder, Fleet(Path(folder)) as fleet:
        found = rollout(fleet)
    print("\n".join(found["differences"]) or "the books agree")
    sys.exit(1 if found["differences"] else 0)
