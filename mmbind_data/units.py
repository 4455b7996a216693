"""Units of raw data and what they become in a store. The conversion itself is pint's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from .errors import FormatError, problem

if TYPE_CHECKING:
    import pint

# what a store holds, in the order in which it is tried; other units become base units
STORED = (
    "m/s^2", "rad/s", "1/min", "Hz", "uT", "m", "rad", "s", "m/s", "V", "A", "K", "Pa", "N", "W",
    "lx",
)  # fmt: skip
# words of sensor data sheets that pint reads otherwise, or not at all
WORDS = (
    "dps = degree / second",
    "bpm = 1 / minute",
    "sensor_gauss = 1e-4 * tesla",
)
# to pint, g is gram, G the constant of gravitation, and gauss no SI unit
MEANT = {
    "g": "standard_gravity",
    "mg": "millistandard_gravity",
    "G": "sensor_gauss",
    "gauss": "sensor_gauss",
    "mgauss": "millisensor_gauss",
}


@dataclass(frozen=True)
class Conversion:
    """``stored = scale * raw + offset``, in ``unit``."""

    unit: str
    scale: float
    offset: float = 0.0


def conversion(text: str, where: str) -> Conversion:
    """How values in a unit become those of a store.

    Parameters
    ----------
    text : str
        A unit as data sheets write it: ``g`` (standard gravity, never gram), ``mg``, ``deg/s``,
        ``dps``, ``uT``, ``gauss``, ``mm``, ``m/s^2``, ``degC``, ``bpm``; ``1`` for plain numbers.
        Units that pint does not know are an error; ``px`` and ``dB`` are kept as they are.
    where : str
        What carries the unit, for the message.

    Raises
    ------
    FormatError
        No such unit.

    >>> conversion("g", "acc")
    Conversion(unit='m/s^2', scale=9.80665, offset=0.0)
    """
    if text in ("1", "", "px", "dB"):
        return Conversion(text or "1", 1.0)
    registry = _registry()
    try:
        one = registry.Quantity(1.0, MEANT.get(text, text))
        zero = registry.Quantity(0.0, MEANT.get(text, text))
        stored = _stored(one, per_minute="min" in text or text == "bpm")
        target = registry.Unit(stored if stored != "1" else "dimensionless")
        offset = float(zero.to(target).magnitude)
        return Conversion(stored, float(one.to(target).magnitude) - offset, offset)
    # pint reports what it cannot read by whatever its parser trips over, tokenize errors included
    except Exception as error:
        expected = "a unit such as g, m/s^2, deg/s, uT, mm, 1"
        message = problem("convert units", "unknown unit", where, expected, repr(text), str(error))
        raise FormatError(message) from error


def _stored(one: pint.Quantity[float], *, per_minute: bool) -> str:
    """The unit of a store that a quantity is kept in."""
    # angles have no dimension: rad/s, 1/min and Hz differ by name alone
    angular = "radian" in str(one.to_base_units().units)
    for stored in STORED:
        same_sort = stored == "lx" or angular == ("rad" in stored)
        if one.is_compatible_with(stored) and same_sort and (stored != "1/min" or per_minute):
            return stored
    return f"{one.to_base_units().units:~C}" or "1"


@cache
def _registry() -> pint.UnitRegistry[float]:
    import pint

    registry: pint.UnitRegistry[float] = pint.UnitRegistry(autoconvert_offset_to_baseunit=True)
    for word in WORDS:
        registry.define(word)
    return registry
