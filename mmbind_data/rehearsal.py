"""Check a request to bind without binding: what `bind` would refuse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .bind_options import BindOptions
from .binding import check_request
from .label_matching import worded
from .layout import Bound, Store
from .matching import carried, check_options
from .mean_rows import refuse_means
from .occasion import LOCATION, TIME
from .pairs import LABEL, candidates, concatenate, stack_sources


def rehearse(
    opened: Sequence[Store | Bound], shared: str | Sequence[str], options: BindOptions
) -> dict[str, int]:
    """Refuse what `bind` refuses, as far as no sample need be compared for it.

    Parameters
    ----------
    opened : sequence of Store or Bound
    shared : str or sequence of str
    options : BindOptions

    Returns
    -------
    dict of str to int
        By the ids of an input's sources: how many samples carry what its binding shares.

    Raises
    ------
    UsageError, BindingError
        See `mmbind_data.binding.bind`.
    """
    sides, chosen = check_request(opened, shared, options.derive)
    options = worded(options, sides, chosen)
    earlier = sides[0]
    given = np.zeros(len(earlier), dtype=bool)  # rows that a binding may have given a modality
    for side, name in zip(sides[1:], chosen, strict=True):
        first, second = stack_sources(earlier, side)
        refuse_means((first, second), mean=options.mean, top_k=options.rule.top_k)
        own, theirs = (carried(rows, name, options.derive) for rows in (first, second))
        most = own if name in (LABEL, TIME, LOCATION) else own | given
        both = (first.take(candidates(first, most)), second.take(candidates(second, theirs)))
        check_options(both, name, options, exact=bool((most == own).all()))
        given = np.concatenate([given | own, theirs])
        earlier = concatenate([first, second], list({**first.given, **second.given}), (name,))
    names = [chosen[0], *chosen]
    return {
        " + ".join(source.source_id for source in side.sources): int(
            carried(side, name, options.derive).sum()
        )
        for side, name in zip(sides, names, strict=True)
    }
