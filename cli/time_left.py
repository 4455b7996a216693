"""How much time work still takes, by the time that its parts took so far."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

RECENT = 50  # what was found finished by a resumed run took no time: it is soon forgotten


def time_left(now: Callable[[], float] = time.monotonic) -> Callable[[int, int], float | None]:
    """Begin to take the time.

    Parameters
    ----------
    now : callable
        A clock in seconds.

    Returns
    -------
    callable (done, total)
        To be told each step; gives the seconds that the rest takes at the pace of the recent
        steps, None as long as nothing is done. Another total, or fewer steps done than before,
        is other work: its time begins when it was last told of the work before.

    Examples
    --------
    >>> clock = iter([0.0, 3.0, 8.0])
    >>> left = time_left(lambda: next(clock))
    >>> left(1, 3), left(2, 3)
    (6.0, 4.0)
    """
    steps = deque([(now(), 0)], maxlen=RECENT)
    known = 0

    def tell(done: int, total: int) -> float | None:
        nonlocal known
        at, before = steps[-1]
        if total != known or done < before:
            steps.clear()
            steps.append((at, 0))
            known = total
        steps.append((now(), done))
        (begin, first), (end, _) = steps[0], steps[-1]
        return (end - begin) / (done - first) * (total - done) if done > first else None

    return tell
