import pytest
from wscc.report.quantities import count, in_unit, percent, si, size, three_digits


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 s"),
        (1.0, "1.00 s"),
        (0.0123, "12.3 ms"),
        (0.00099999, "1.00 ms"),
        (999.96, "1.00 ks"),
        (4.2e-14, "0.0420 ps"),
        (-0.5, "-500 ms"),
        (7.48e15, "7.48 Ps"),
    ],
)
def test_seconds_take_an_si_prefix_and_three_digits(value: float, text: str) -> None:
    assert si(value, "s") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (48 * 1024, "48.0 KiB"),
        (16_060_522_496, "15.0 GiB"),
        (1.5e12, "1.36 TiB"),
    ],
)
def test_bytes_take_a_binary_prefix(value: float, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (9.996, "10.0"), (1234.5, "1,230"), (0.00123, "0.00123"), (1.5e-7, "1.5e-07")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert three_digits(value) == text


def test_counts_have_separators() -> None:
    assert count(850_000) == "850,000"


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0, "0%"), (0.5, "50%"), (0.0123, "1.2%"), (0.00012, "0.012%"), (1.0, "100%")],
)
def test_a_small_share_keeps_two_digits(fraction: float, text: str) -> None:
    assert percent(fraction) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2048, "bytes", "2.00 KiB"),
        (23e3, "W", "23.0 kW"),
        (3, "rectangles", "3.00 rectangles"),
        (745_500, "cores", "745,500 cores"),
        (0.9, "", "0.900"),
    ],
)
def test_a_figure_is_shown_in_its_unit(value: float, unit: str, text: str) -> None:
    assert in_unit(value, unit) == text
