import pytest
from wscc.cli.asked import Help, Talk
from wscc.cli.dse import arguments
from wscc.cli.dse.arguments import read_arguments
from wscc.cli.dse.asked import Enqueue, Export, Retry, Search, Status
from wscc.dse.objective import Objective
from wscc.dse.strategies import STRATEGIES as KNOWN
from wscc.ir.errors import UserError

TALK = Talk()
BASE = ["--hw", "space.wsc", "--model", "m.json"]


def search(*flags: str) -> Search:
    asked = read_arguments([*BASE, *flags])
    assert isinstance(asked, Search)
    return asked


def refused(arguments: list[str]) -> str:
    with pytest.raises(UserError) as caught:
        read_arguments(arguments)
    return caught.value.message


def test_alone_it_explains_itself_and_exits_with_two() -> None:
    alone = read_arguments([])
    assert isinstance(alone, Help)
    assert alone.code == 2
    assert "wscc-dse --hw FILE --model CONFIG" in alone.text


@pytest.mark.parametrize("verb", ["", *arguments.VERBS])
def test_every_verb_has_help(verb: str) -> None:
    asked = read_arguments([*([verb] if verb else []), "--help"])
    assert isinstance(asked, Help)
    assert asked.code == 0


def test_the_strategies_of_the_help_are_those_that_are_there() -> None:
    assert set(arguments.STRATEGIES) == set(KNOWN)


def test_hardware_and_model_suffice() -> None:
    asked = search()
    assert asked.study == "space-study"
    assert asked.objectives == (
        Objective("tokens_per_s", "max"),
        Objective("power_nameplate_w", "min"),
    )
    (work,) = asked.workloads
    assert (work.name, work.model, work.phase, work.batch) == ("", "m.json", "prefill", 1)


def test_objectives_and_constraints_are_read() -> None:
    asked = search("--objective", "min:noc.flows", "--constraint", "power_w <= 15000")
    assert asked.objectives == (Objective("noc.flows", "min"),)
    assert str(asked.limits[0]) == "power_w <= 15000"


def test_several_workloads_take_what_they_do_not_state_from_the_flags() -> None:
    asked = search(
        *("--batch", "4", "--phase", "decode"),
        *("--workload", "chat: context=4096, weight=3"),
        *("--workload", "long: model=big.json, batch=1, phase=prefill"),
    )
    chat, long = asked.workloads
    assert (chat.name, chat.model, chat.phase, chat.batch) == ("chat", "m.json", "decode", 4)
    assert (chat.context, chat.weight) == (4096, 3.0)
    assert (long.model, long.phase, long.batch, long.weight) == ("big.json", "prefill", 1, 1.0)


def test_times_are_read_in_seconds() -> None:
    assert search("--timeout", "90").timeout_s == 90
    assert search("--timeout", "1.5h").timeout_s == 5400


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--strategy", "certifed"], "did you mean 'certified'?"),
        (["--objective", "power"], "say 'min:power' or 'max:power', did you mean 'power_w'?"),
        (["--objective", "latency_s", "--objective", "latency_s"], "latency_s is repeated"),
        (["--constraint", "power_w < 3"], "expected a figure, <= or >=, and a number in SI"),
        (["--epsilon", "0.1"], "--epsilon is of --strategy certified"),
        (["--epsilon", "2", "--strategy", "certified"], "no number from 0 to 1"),
        (["--workload", "chat model=x"], "expected a name, a colon"),
        (["--workload", "a: batch=1", "--workload", "a: batch=2"], "'a' is repeated"),
        (["--workload", "a: bach=1"], "unknown key 'bach', did you mean 'batch'?"),
        (["--workload", "a: weight=-1"], "no number above zero"),
        (["--combine", "worse"], "did you mean 'worst'?"),
        (["--timeout", "soon"], "no time, expected 90s, 30m or 2h"),
        (["--address", "head:6379"], "needs --engine ray"),
        (["--worker", "2"], "unknown flag '--worker', did you mean '--workers'?"),
    ],
)
def test_a_mistake_is_one_message_with_what_is_meant(flags: list[str], message: str) -> None:
    assert message in refused([*BASE, *flags])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["statsu"], "unknown command 'statsu', did you mean 'status'?"),
        (["status"], "STUDY is missing"),
        (["show", "s"], "TRIAL is missing"),
        (["show", "s", "first"], "'first' is no whole number"),
        (["enqueue", "s"], "a design is missing"),
        (["enqueue", "s", "a.wsc", "rows=3"], "'a.wsc' is no NAME=VALUE, nor the only argument"),
        (["export", "s"], "say where"),
        (["plot", "s"], "-o DIR is missing"),
        (["compare", "s"], "two studies or more"),
        (["status", "s", "--watch", "--json"], "contradict each other"),
        (["--model", "m.json"], "--hw FILE is missing"),
        (["--hw", "x.wsc"], "--model CONFIG is missing"),
    ],
)
def test_what_is_missing_or_unknown_is_said(arguments: list[str], message: str) -> None:
    assert message in refused(arguments)


def test_verbs_are_read() -> None:
    assert read_arguments(["status", "s", "--watch"]) == Status("s", TALK, watch=True)
    assert read_arguments(["retry", "s", "3", "4"]) == Retry("s", (3, 4), TALK)
    assert read_arguments(["enqueue", "s", "rows=8", "joint=x"]) == Enqueue(
        "s", TALK, (("rows", "8"), ("joint", "x"))
    )
    assert read_arguments(["enqueue", "s", "mine.wsc"]) == Enqueue("s", TALK, file="mine.wsc")
    assert read_arguments(["export", "s", "--csv", "x"]) == Export("s", TALK, csv="x")
