"""Energy of the processor packages, where Linux reports it (Intel and AMD, readable by root)."""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


def read_joules(root: Path = POWERCAP) -> float | None:
    """Counter of all packages together in J, or None where the machine tells nothing.

    Only a difference of two readings means something, and it counts all that the machine does.
    """
    packages = [
        path for path in root.glob("intel-rapl:*/energy_uj") if path.parent.name.count(":") == 1
    ]
    try:
        values = [int(path.read_text()) for path in packages]
    except (OSError, ValueError):
        return None
    return sum(values) / 1e6 if values else None
