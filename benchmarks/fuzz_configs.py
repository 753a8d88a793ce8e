"""Configs with something wrong in them: each must be read, or refused with one message.

python benchmarks/fuzz_configs.py [--count 5000] [--seed 0] [--build 0]

Every model type that is built is mutated in turn. Prints how many were read and refused, what
else came out, and the slowest. `--build N` also has Transformers build N of those that were read,
of tensors without memory.
"""

import argparse
import json
import random
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from wscc.frontend.model import ModelConfig, read_config, trace_key
from wscc.frontend.model.config.schema import ConfigClass, class_of_type, config_class, schema
from wscc.ir.errors import UserError

Config = dict[str, Any]
Mutation = Callable[[Config, random.Random], None]

LONGEST_S = 60
"""A build that takes longer hangs."""

ODD = (
    None, True, False, 0, 1, -1, 2, 3, 5, 7, 1023, 1 << 31, -(1 << 40), 10**30, 0.0, -0.5, 0.25,
    1.5, 1e-30, 1e300, float("inf"), float("nan"), "", "silu", "4096", "full_attention", "yarn",
    "\ud800", [], [1], [-1, 0], ["full_attention"], [[]], {}, {"rope_type": "yarn"},
    {"rope_type": "longrope", "short_factor": [1], "long_factor": []}, {"a": {"b": [None]}},
    {"full_attention": {"rope_type": "default"}, "sliding_attention": None},
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What reading a mutated config came to."""

    kind: str
    seconds: float
    text: str
    config: ModelConfig | None = None


def base(model_type: str) -> Config:
    """A config of a family as its class has it by itself, of two layers."""
    return {"model_type": model_type, **_defaults(class_of_type(model_type))}


def _defaults(found: ConfigClass) -> Config:
    values = {key: field.default for key, field in found.fields.items()}
    values = {key: value for key, value in values.items() if value is not None}
    for name in ("num_hidden_layers", "num_layers"):
        if (own := found.own_name(name)) in values:
            values[own] = 2
    for key, part in found.parts.items():
        inner = config_class(part.config_class)
        values[key] = _defaults(inner) | ({"model_type": inner.type} if part.open else {})
    return values


def mutated(model_type: str, draw: random.Random) -> Config:
    """A config with one to three things wrong, or none."""
    values = json.loads(json.dumps(base(model_type)))
    for _ in range(draw.randint(0, 3)):
        target = values
        while inner := [value for value in target.values() if isinstance(value, dict) and value]:
            if draw.random() < 0.5:
                break
            target = draw.choice(inner)
        if target:
            draw.choice(MUTATIONS)(target, draw)
    return values


def _drop(values: Config, draw: random.Random) -> None:
    del values[draw.choice(list(values))]


def _replace(values: Config, draw: random.Random) -> None:
    values[draw.choice(list(values))] = draw.choice(ODD)


def _misspell(values: Config, draw: random.Random) -> None:
    key = draw.choice(list(values))
    at = draw.randrange(len(key) + 1)
    values[key[:at] + draw.choice("aes_") + key[at:]] = values.pop(key)


def _swap(values: Config, draw: random.Random) -> None:
    one, two = draw.choice(list(values)), draw.choice(list(values))
    values[one], values[two] = values[two], values[one]


def _scale(values: Config, draw: random.Random) -> None:
    numbers = [key for key, value in values.items() if type(value) in (int, float)]
    if numbers:
        key = draw.choice(numbers)
        values[key] = draw.choice((-values[key], values[key] + 1, values[key] * 3, 10**9))


def _contradict(values: Config, draw: random.Random) -> None:
    """Give another number for a size that others depend on."""
    keys = [key for key in values if key.endswith(("heads", "experts", "size", "dim", "layers"))]
    if keys:
        values[draw.choice(keys)] = draw.choice((0, 1, 2, 3, 5, 6, 7, 12, 17, 96, 1000))


def _rope(values: Config, draw: random.Random) -> None:
    kinds = ("default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional", "mrope")
    stated: Config = {draw.choice(("type", "rope_type")): draw.choice((*kinds, "spiral", 3))}
    names = ("factor", "low_freq_factor", "high_freq_factor", "rope_theta", "partial_rotary_factor")
    for name in draw.sample(names, draw.randint(0, 5)):
        stated[name] = draw.choice((2.0, 1, 0.5, -1, "2", None))
    values[draw.choice(("rope_scaling", "rope_parameters"))] = stated


def _list_layers(values: Config, draw: random.Random) -> None:
    kinds = ("full_attention", "sliding_attention", "linear_attention", "mamba", "conv", "moe", "x")
    values["layer_types"] = draw.choices(kinds, k=draw.randint(0, 3))


MUTATIONS: tuple[Mutation, ...] = (
    _drop, _replace, _replace, _misspell, _swap, _scale, _contradict, _contradict, _rope,
    _list_layers,
)  # fmt: skip


def outcome(values: Config, file: Path, part: str = "text") -> Outcome:
    """What comes of reading a config: `read`, `refused`, or the name of another exception."""
    text = json.dumps(values)
    file.write_text(text)
    begin = perf_counter()
    config = None
    try:
        config = read_config(str(file), "text" if part == "text" else "all")
        trace_key(config, "decode")
        kind = "read"
    except UserError as error:
        kind = "refused" if len(str(error).splitlines()) == 1 else "refused in several lines"
    except Exception as error:
        kind = f"{type(error).__name__}: {error}"[:100]
    return Outcome(kind, perf_counter() - begin, text, config)


def outcomes(count: int, seed: int, folder: Path) -> Iterator[Outcome]:
    """The outcomes of `count` mutated configs, of every family in turn."""
    draw = random.Random(seed)
    types = sorted(schema().built)
    draw.shuffle(types)
    for at in range(count):
        values = mutated(types[at % len(types)], draw)
        yield outcome(values, folder / "config.json", draw.choice(("text", "all")))


def _too_long(*_: Any) -> None:
    raise TimeoutError(f"over {LONGEST_S} s")


def built(config: ModelConfig) -> Outcome:
    """What comes of building a config that was read."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from wscc.frontend.model.build import build

    begin = perf_counter()
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(LONGEST_S)
    try:
        build(config, FakeTensorMode())
        kind = "built"
    except UserError as error:
        kind = "refused"
        if "over" in error.message and f"{LONGEST_S} s" in error.message:
            kind = "hangs"
        elif len(str(error).splitlines()) > 1:
            kind = "refused in several lines"
    except Exception as error:
        kind = f"{type(error).__name__}: {error}"[:100]
    finally:
        signal.alarm(0)
    return Outcome(kind, perf_counter() - begin, json.dumps(dict(config.values)), config)


def report(title: str, found: list[Outcome]) -> None:
    """Print counts by outcome, and the slowest."""
    print(title)
    for kind, count in Counter(one.kind for one in found).most_common():
        print(f"  {count:6}  {kind}")
    if found:
        slowest = max(found, key=lambda one: one.seconds)
        name = "" if slowest.config is None else slowest.config.family
        print(f"  slowest {slowest.seconds:.3f} s  {name} {slowest.text[:300]}")


def main() -> int:
    """Fuzz, print, and tell by the exit code whether anything unexpected came out."""
    parser = argparse.ArgumentParser(description="mutate configs and read them")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--build", type=int, default=0, metavar="N")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = list(outcomes(flags.count, flags.seed, Path(folder)))
    report(f"read {flags.count}", found)
    survivors = [one.config for one in found if one.config is not None][: flags.build]
    made = [built(config) for config in survivors]
    if made:
        report(f"build {len(made)}", made)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    print(f"peak memory {peak:.2f} GiB")
    expected = {"read", "refused", "built"}
    return int(any(one.kind not in expected for one in (*found, *made)))


if __name__ == "__main__":
    sys.exit(main())
