"""`make faults`: every fault on a system of its own, seeded; exit 1 where one leaves the books wrong.

`python -m tests.faults [--seed N] [--crippled] [FAULT …]`
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

from shared.runtime import embedded, store
from shared.runtime.settings import Settings
from tests.faults.crippled import DEFENCES, MEND
from tests.faults.faults import FAULTS
from tests.faults.harness import Broken, NotHere
from tests.faults.limits import limited

_CRIPPLED_PATIENCE = 45.0
_LIMIT_SECONDS = 420.0  # for a fault and its books, on a machine that is busy with other things


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--crippled", action="store_true", help="switch the defences off, one by one: each is missed")
    parser.add_argument("faults", nargs="*", metavar="fault", help=", ".join(FAULTS))
    arguments = parser.parse_args()
    server = embedded.find_server(Settings.load())
    print(f"seed {arguments.seed}, {embedded.describe(server)} ({server})")
    if arguments.crippled:
        if _mends(embedded.describe(server) or ""):
            print(f"{MEND}: NOT TRIED HERE: this server mends its file by itself")
            del DEFENCES[MEND]
        held = []
        for defence, (switch_off, fault) in DEFENCES.items():
            if defence == MEND:
                switch_off()
            if run(fault, arguments.seed, defence, patience=_CRIPPLED_PATIENCE):
                held.append(defence)
        print(f"not missed: {', '.join(held) or 'none'}")
        return 1 if held else 0
    passed = [run(name, arguments.seed) for name in arguments.faults or FAULTS]
    return 0 if all(passed) else 1


def _mends(server: str) -> bool:
    name, _, version = server.partition(" server v=")
    return name == "Valkey" and store.mends({"valkey_version": version})


def run(name: str, seed: int, crippled: str = "", patience: float = 120) -> bool:
    """Run one fault on a fresh system. Returns whether the books were right within `patience` seconds."""
    started = time.monotonic()
    passed = True
    with tempfile.TemporaryDirectory(prefix="ar") as folder:
        try:
            with limited(_LIMIT_SECONDS, Path(folder)), Broken(Path(folder), seed, crippled, patience) as system:
                found = system.settle(FAULTS[name](system))
            said = f"{found['exchanges']} exchanges, {found['revisions']} revisions"
        except (PackageNotFoundError, NotHere) as exc:
            said = f"NOT TRIED HERE: {exc}"
        except AssertionError as exc:
            passed = False
            said = f"FAILED: {exc}"
        except KeyboardInterrupt:
            print(f"{name:30} FAILED: interrupted", flush=True)
            raise
    without = f" without {crippled}" if crippled else ""
    print(f"{name + without:30} {time.monotonic() - started:5.1f} s  {said[:400]}", flush=True)
    return passed


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(1)
