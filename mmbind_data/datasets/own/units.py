"""Units of raw data and what they become in a store. The conversion itself is pint's."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from mmbind_data.errors import FormatError, suggest

if TYPE_CHECKING:
    import pint

# what a store holds, in the order in which it is tried; other units become base units
STORED_UNITS = "m/s^2 rad/s 1/min Hz uT m rad s m/s V A K Pa N W lx"
# words of sensor data sheets that pint reads otherwise, or not at all
PINT_DEFINITIONS = ("dps = degree / second", "bpm = 1 / minute", "sensor_gauss = 1e-4 * tesla")
# to pint, g is gram, G the constant of gravitation, and gauss no SI unit
UNIT_ALIASES = {
    "g": "standard_gravity",
    "mg": "millistandard_gravity",
    "G": "sensor_gauss",
    "gauss": "sensor_gauss",
    "mgauss": "millisensor_gauss",
}
# what data sheets say, for those who mistype it
COMMON_UNITS = """
1 g mg m/s^2 deg/s dps rad/s deg rad uT mT gauss mgauss m cm mm s ms us ns Hz bpm 1/min
V mV A mA degC K Pa hPa kPa N W lx px dB
"""
MAX_LENGTH = 40  # characters
# A power is computed before anything is known of its size: one of one digit, never of a power.
POWER = re.compile(r"\*\*|\^|[⁰¹²³⁴⁵⁶⁷⁸⁹]+|squared|cubed|square|cubic|\bsq\b")
EXPONENT = re.compile(r"(?:\*\*|\^)\s*(?:[-+]?\d(?:\.\d)?|\([-+]?\d(?:[./]\d)?\))(?![\w.])")
BETWEEN = re.compile(r"(?<!\*)\*(?!\*)|/|·|⋅|\bper\b")


@dataclass(frozen=True)
class Conversion:
    """``stored = scale * raw + offset``, in ``unit``."""

    unit: str
    scale: float
    offset: float = 0.0


def conversion(text: str, where: str) -> Conversion:
    """How values in a unit become those of a store.

    Units are as data sheets write them: ``g`` (standard gravity, never gram), ``mg``, ``deg/s``,
    ``dps``, ``uT``, ``gauss``, ``mm``, ``m/s^2``, ``degC``, ``bpm``; ``1`` for plain numbers;
    ``px`` and ``dB`` are kept as they are. ``where`` is what has the unit, for the message.

    Raises
    ------
    FormatError
        Pint does not know the unit.

    >>> conversion("g", "acc")
    Conversion(unit='m/s^2', scale=9.80665, offset=0.0)
    """
    if text in ("1", "", "px", "dB"):
        return Conversion(text or "1", 1.0)
    if not _harmless(text):
        step = "A unit is short and has powers of one digit."
        raise _unknown(text, where, step)
    registry = _registry()
    try:
        one = registry.Quantity(1.0, UNIT_ALIASES.get(text, text))
        zero = registry.Quantity(0.0, UNIT_ALIASES.get(text, text))
        stored = _stored(one, per_minute="min" in text or text == "bpm")
        target = registry.Unit(stored if stored != "1" else "dimensionless")
        offset = float(zero.to(target).magnitude)
        scale = float(one.to(target).magnitude) - offset
    # pint reports what it cannot read by whatever its parser trips over, tokenize errors included
    except Exception as error:
        raise _unknown(text, where, suggest(text, COMMON_UNITS.split())) from error
    if not math.isfinite(scale) or not math.isfinite(offset) or scale == 0:
        raise _unknown(text, where, suggest(text, COMMON_UNITS.split()))
    return Conversion(stored, scale, offset)


def _unknown(text: str, where: str, step: str) -> FormatError:
    doing, what = "convert units", "unknown unit"
    expected = "a unit such as g, m/s^2, deg/s, uT, mm, 1"
    got = repr(text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH]}...")
    return FormatError(cannot=doing, problem=what, at=where, expected=expected, got=got, fix=step)


def _harmless(text: str) -> bool:
    """Whether reading a unit takes no time: pint computes 10**10**10 digit by digit."""
    if len(text) > MAX_LENGTH or re.search(r"\)\s*(?:\*\*|\^|[⁰¹²³⁴⁵⁶⁷⁸⁹])", text):
        return False
    for factor in BETWEEN.split(text):
        powers = POWER.findall(factor)
        signs = sum(power in ("**", "^") for power in powers)
        if len(powers) > 1 or any(len(power) > 1 and not power.isascii() for power in powers):
            return False
        if signs != len(EXPONENT.findall(factor)):
            return False
    return True


def _stored(one: pint.Quantity[float], *, per_minute: bool) -> str:
    """The unit of a store that a quantity is kept in."""
    # angles have no dimension: rad/s, 1/min and Hz differ by name alone
    angular = "radian" in str(one.to_base_units().units)
    for stored in STORED_UNITS.split():
        same_sort = stored == "lx" or angular == ("rad" in stored)
        if one.is_compatible_with(stored) and same_sort and (stored != "1/min" or per_minute):
            return stored
    return f"{one.to_base_units().units:~C}" or "1"


@cache
def _registry() -> pint.UnitRegistry[float]:
    import pint

    registry: pint.UnitRegistry[float] = pint.UnitRegistry(autoconvert_offset_to_baseunit=True)
    for word in PINT_DEFINITIONS:
        registry.define(word)
    return registry
