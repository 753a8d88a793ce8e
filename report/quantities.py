"""Figures as a person reads them: three digits and a prefix. `12.3 ms`, `15.0 GiB`, `850,000`."""

from math import floor, log10

_SI = {
    -12: "p", -9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E",
}  # fmt: skip
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def si(value: float, unit: str) -> str:
    """A value in an SI unit with the prefix that leaves one to three digits before the point."""
    if value == 0:
        return f"0 {unit}"
    rounded = float(f"{value:.3g}")
    power = min(max(3 * floor(log10(abs(rounded)) / 3), min(_SI)), max(_SI))
    return f"{three_digits(rounded / 10.0**power)} {_SI[power]}{unit}"


def size(count: float) -> str:
    """Bytes with a binary prefix."""
    power = 0
    while abs(count) >= 1024 and power + 1 < len(_BINARY):
        count, power = count / 1024, power + 1
    return f"{count:.0f} B" if power == 0 else f"{three_digits(count)} {_BINARY[power]}"


def three_digits(value: float) -> str:
    """A number with three significant digits, and no exponent where it is of everyday size."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.3g}")
    magnitude = floor(log10(abs(rounded)))
    if not -3 <= magnitude < 9:
        return f"{rounded:.3g}"
    return f"{rounded:,.{max(0, 2 - magnitude)}f}"


def count(value: float) -> str:
    """A whole number with separators."""
    return f"{value:,.0f}"


def percent(fraction: float) -> str:
    """A fraction as a percentage, two digits where it is below ten."""
    value = 100 * fraction
    return f"{value:.2g}%" if 0 < abs(value) < 9.95 else f"{value:.0f}%"


def in_unit(value: float, unit: str) -> str:
    """A value in a named unit: bytes, SI units with a prefix, cores in full, the rest as it is."""
    if unit in ("B", "bytes"):
        return size(value)
    if unit in ("s", "W", "J", "Hz", "FLOP", "FLOP/s", "B/s"):
        return si(value, unit)
    if unit == "cores":
        return f"{count(value)} cores"
    return f"{three_digits(value)} {unit}".rstrip()
