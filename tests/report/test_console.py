import dataclasses
import io
from collections.abc import Callable

import pytest
from wscc.ir.result import Infeasibility, Result
from wscc.report.console import print_report

Golden = Callable[[str, str], None]


def shown(result: Result, notes: bool = False) -> str:
    file = io.StringIO()
    print_report(result, file, notes)
    return file.getvalue()


def test_the_report_of_a_decode_step_reads_like_this(sample_result: Result, golden: Golden) -> None:
    golden("decode.txt", shown(sample_result))


def test_what_does_not_fit_comes_first(sample_result: Result, golden: Golden) -> None:
    short = Infeasibility(
        resource="SRAM",
        where="the fullest core of stage 0",
        demand=60_416,
        limit=47_104,
        gap=13_312,
        unit="bytes",
        changes=("--region 660x660", "--set sram_size=64KiB"),
    )
    result = dataclasses.replace(sample_result, feasible=False, infeasible=(short,))
    golden("infeasible.txt", shown(result))


def test_money_is_shown_where_it_is_known(sample_result: Result) -> None:
    made = dataclasses.replace(sample_result, cost_usd=1_234_567.0)
    assert "Cost          1,230,000 USD of silicon and priced parts\n" in shown(made)
    sold = dataclasses.replace(made, usd_per_million_tokens=0.4567)
    assert (
        "1,230,000 USD of silicon and priced parts; 0.457 USD a million tokens with power\n"
        in shown(sold)
    )
    assert "USD" not in shown(sample_result)


def test_what_cannot_be_counted_is_not_said_to_be_short(sample_result: Result) -> None:
    short = Infeasibility("cores", "wafer w: no room", 224, 255, 0, "cores", ())
    text = shown(dataclasses.replace(sample_result, feasible=False, infeasible=(short,)))
    assert "does not fit: cores of wafer w: no room: 224 cores of 255 cores\n" in text


def test_that_the_reader_has_left_is_for_the_caller(sample_result: Result) -> None:
    class Left(io.StringIO):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        print_report(sample_result, Left())


def test_the_report_is_plain_ascii(sample_result: Result) -> None:
    assert shown(sample_result, notes=True).isascii()


def test_notes_are_shown_when_asked_for(sample_result: Result) -> None:
    assert "no contention between stages" not in shown(sample_result)
    assert "note: no contention between stages" in shown(sample_result, notes=True)


def test_a_name_that_looks_like_markup_is_printed_as_it_is(sample_result: Result) -> None:
    model = dataclasses.replace(sample_result.model, name="[bold]x[/bold]")
    assert "[bold]x[/bold], decode" in shown(dataclasses.replace(sample_result, model=model))


def test_a_prefill_step_is_a_prompt(sample_result: Result) -> None:
    workload = dataclasses.replace(sample_result.workload, phase="prefill", sequence=2048)
    text = shown(dataclasses.replace(sample_result, workload=workload))
    assert "sequence 2,048" in text
    assert "4.00 ms a prompt" in text


def test_a_result_that_takes_no_time_is_shown_all_the_same(sample_result: Result) -> None:
    result = dataclasses.replace(
        sample_result, latency_s=0.0, energy_j=0.0, breakdown={}, energy={}
    )
    assert "Would help    -" in shown(result)


def test_a_broken_constraint_is_shown_as_the_spec_says_it(sample_result: Result) -> None:
    broken = Infeasibility("constraint", "power(wse) <= 20 kW", 23_000.0, 20_000.0, 3_000.0, "", ())
    text = shown(dataclasses.replace(sample_result, feasible=False, infeasible=(broken,)))
    wanted = "constraint broken: power(wse) <= 20 kW: 23,000 against 20,000 in SI units"
    assert wanted in text
