"""Every causal language model of Transformers, tiny: does its graph compute what it computes?

For each model type a config of small numbers is made from the names of its fields. The model is
lowered, run on random weights in float32, and its logits in prefill and, against its own caches,
in decode are compared with Hugging Face's. Every family has a process and a time limit of its own.
Prints a line a family: ok (largest error over largest logit), wrong (the same), refused (why).

    python benchmarks/sweep_families.py --only gpt2,opt --phase decode
    python benchmarks/sweep_families.py --results out/families.jsonl --markdown docs/models.md

The second keeps what it finds, one line of JSON a family, runs no family again that is in there,
and puts the table of all families into a page, between two marks.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from inspect import signature
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from wscc.benchmarks.small_configs import small_values

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ.setdefault("OMP_NUM_THREADS", "1")

PHASES = ("prefill", "decode")
TOKENS, BATCH = 11, 2
TOLERANCE = 1e-5
PARAMETERS = 30_000_000
TIME_LIMIT_S = 120.0
REASON_LENGTH = 400

BEGIN, END = "<!-- families: begin -->", "<!-- families: end -->"


@dataclass(frozen=True)
class Outcome:
    """One family: for every phase a word and an error or a reason, and the time it took."""

    family: str
    words: Mapping[str, str]
    seconds: float

    @property
    def right(self) -> bool:
        return all(word.startswith("ok") for word in self.words.values())


def families() -> list[str]:
    """The model types that AutoModelForCausalLM or AutoModelForMultimodalLM knows."""
    from transformers.models.auto import modeling_auto as auto

    known = (auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES)
    return sorted({name for names in known for name in names})


def run(family: str, phases: Sequence[str]) -> Outcome:
    """Build, lower, run and compare one family in a process of its own."""
    started = time.perf_counter()
    receiver, sender = get_context("fork").Pipe(duplex=False)
    process = get_context("fork").Process(target=_send, args=(sender, family, phases))
    process.start()
    sender.close()
    words: dict[str, str] = {}
    try:
        while len(words) < len(phases):
            left = TIME_LIMIT_S - (time.perf_counter() - started)
            if not receiver.poll(max(left, 0)):
                words[phases[len(words)]] = f"late: not done after {TIME_LIMIT_S:g} s"
                break
            words.update(receiver.recv())
    except EOFError:
        process.join()
        words[phases[len(words)]] = f"crashed: exit code {process.exitcode}"
    finally:
        process.kill()
        process.join()
    rest = dict.fromkeys(phases[len(words) :], "not run")
    return Outcome(family, words | rest, time.perf_counter() - started)


def _send(sender: Connection, family: str, phases: Sequence[str]) -> None:
    """Send a word for every phase as soon as it is known."""
    known = 0
    try:
        for word in _compared(family, phases):
            sender.send({phases[known]: word})
            known += 1
            if not word.startswith("ok"):
                break
    except Exception as error:
        sender.send({phases[known]: _reason(error)})
        known += 1
    for phase in phases[known:]:
        sender.send({phase: "not run"})


def _reason(error: Exception) -> str:
    from wscc.ir.errors import UserError

    if os.environ.get("SWEEP_TRACEBACK"):
        import traceback

        traceback.print_exc()
    if isinstance(error, UserError):
        return f"refused: {error.message}"[:REASON_LENGTH]
    return f"broken: {type(error).__name__}: {' '.join(str(error).split())}"[:REASON_LENGTH]


def _compared(family: str, phases: Sequence[str]) -> Iterator[str]:
    """What comes of every phase."""
    import torch
    from wscc.frontend.model.config.families import OTHER_INPUTS

    torch.set_num_threads(1)
    if family in OTHER_INPUTS:
        yield f"skipped: {OTHER_INPUTS[family]}"
        return
    values = small_values(family)
    if reason := _no_decoder(family, values):
        yield f"skipped: {reason}"
        return
    hf = _reference(family, values)
    config = _read(family, values)
    ids = torch.randint(3, 60, (BATCH, TOKENS + 1))
    positions = torch.arange(TOKENS + 1).repeat(BATCH, 1)
    takes = "position_ids" in signature(hf.forward).parameters
    with torch.no_grad():
        theirs = hf(input_ids=ids, **({"position_ids": positions} if takes else {})).logits
    state = {name: tensor.detach() for name, tensor in hf.named_parameters()}
    for name, tensor in hf.named_buffers():
        state[name] = state[f"computed.{name}"] = tensor
    caches: dict[str, Any] = {}
    for phase in PHASES if "decode" in phases else phases:
        ours = _ours(config, phase, ids, {**state, **caches})
        expected = theirs[:, :TOKENS] if phase == "prefill" else theirs[:, TOKENS:]
        logits = ours.pop("logits")
        if logits.shape != expected.shape:
            yield f"wrong: {tuple(logits.shape)} for {tuple(expected.shape)}"
            return
        error = float((logits - expected).abs().max() / expected.abs().max())
        if phase in phases:
            yield f"{'ok' if error < TOLERANCE else 'wrong'} {error:.1e}"
        caches = ours


def _read(family: str, values: Mapping[str, Any]) -> Any:
    """The config as it is read from a file."""
    from wscc.frontend.model import read_config

    with TemporaryDirectory() as folder:
        file = Path(folder) / f"{family}.json"
        file.write_text(json.dumps({"model_type": family, "dtype": "float32", **values}))
        return read_config(str(file))


def _no_decoder(family: str, values: Mapping[str, Any]) -> str:
    """Why a model type is none that is to be built, or nothing."""
    from wscc.frontend.model.config.families import model_type_of
    from wscc.frontend.model.config.section import ConfigError

    try:
        model_type_of({**values, "model_type": family})
    except ConfigError as error:
        return error.message
    return ""


def _ours(config: Any, phase: Any, ids: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of our graph of a phase."""
    import torch
    from wscc.frontend.model import SizesNeededError, lower_config
    from wscc.ir.interpreter import run_model

    sizes = {"batch": BATCH, "sequence": TOKENS, "context": TOKENS}
    try:
        model = lower_config(config, phase)
    except SizesNeededError as error:
        sys.stderr.write(f"{config.family} {phase}: sizes needed: {str(error)[:REASON_LENGTH]}\n")
        model = lower_config(config, phase, sizes)
    first, last = (0, TOKENS) if phase == "prefill" else (TOKENS, TOKENS + 1)
    inputs = {
        "input_ids": ids[:, first:last],
        "position_ids": torch.arange(first, last).expand(BATCH, last - first),
    }
    return run_model(model.bind(sizes), {**state, **inputs})


def _reference(family: str, values: Mapping[str, Any]) -> Any:
    """Hugging Face's model with random weights."""
    import torch
    from transformers import AutoConfig
    from wscc.frontend.model.text_half import language_model, speaking

    torch.manual_seed(0)
    found = language_model(AutoConfig.for_model(family, **values))
    if found is None:
        raise ValueError("Transformers has no class for its language model")
    kind, config = found
    with torch.device("meta"):
        count = sum(p.numel() for p in kind._from_config(config).parameters())
    if count > PARAMETERS:
        raise ValueError(f"the config made is not tiny: {count / 1e6:.0f} million parameters")
    whole = kind._from_config(config, attn_implementation="eager", dtype=torch.float32)
    hf = speaking(whole)
    if hasattr(hf, "set_experts_implementation") and hf._can_set_experts_implementation():
        hf.set_experts_implementation("eager")
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + 0.02)
    return hf.float().eval()


def markdown(outcomes: Sequence[Outcome]) -> str:
    """A table of the families that are right in all phases, and those that are not."""
    right = [outcome for outcome in outcomes if outcome.right]
    lines = [
        f"{len(right)} model types, checked with `python benchmarks/sweep_families.py`: the",
        "largest difference of a logit from Hugging Face's, in float32, over the largest logit.",
        "",
        "| family | prefill | decode |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| {outcome.family} | {' | '.join(word.split()[1] for word in outcome.words.values())} |"
        for outcome in right
    ]
    others = [outcome for outcome in outcomes if not outcome.right and not _skipped(outcome)]
    if others:
        lines += ["", "Not built, or not right:", "", "| family | phase | why |"]
        lines.append("| --- | --- | --- |")
    for outcome in others:
        phase, word = next(item for item in outcome.words.items() if not item[1].startswith("ok"))
        short = word.replace("|", "/")[:160]
        lines.append(f"| {outcome.family} | {phase} | {short} |")
    return "\n".join(lines)


def _skipped(outcome: Outcome) -> bool:
    return any(word.startswith("skipped") for word in outcome.words.values())


def write_table(page: Path, table: str) -> None:
    """Put a table between the marks of a page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


def kept(results: Path | None) -> dict[str, Outcome]:
    """The outcomes in a file, by family."""
    if results is None or not results.exists():
        return {}
    found = [Outcome(**json.loads(line)) for line in results.read_text().splitlines()]
    return {outcome.family: outcome for outcome in found}


def main(arguments: Sequence[str]) -> int:
    """The table, one line a family as it is done, and a last line of counts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", help="model types, separated by commas; run again if kept")
    parser.add_argument("--phase", choices=PHASES, help="decode runs the prefill first")
    parser.add_argument("--results", type=Path, metavar="FILE", help="keep what is found")
    parser.add_argument("--markdown", type=Path, metavar="PAGE", help="put the table into a page")
    chosen = parser.parse_args(arguments)
    phases = (chosen.phase,) if chosen.phase else PHASES
    outcomes = kept(chosen.results)
    names = chosen.only.split(",") if chosen.only else [n for n in families() if n not in outcomes]
    if names:
        _warm_up()
    for name in names:
        outcome = outcomes[name] = run(name, phases)
        if chosen.results:
            with chosen.results.open("a") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
        for phase, word in outcome.words.items():
            print(f"{name:28} {outcome.seconds:6.1f} s  {phase:8} {word}", flush=True)
    found = [(p, word) for outcome in outcomes.values() for p, word in outcome.words.items()]
    counts = Counter(f"{phase} {word.partition(' ')[0].rstrip(':')}" for phase, word in found)
    print("; ".join(f"{key}: {count}" for key, count in sorted(counts.items())))
    if chosen.markdown:
        write_table(chosen.markdown, markdown([outcomes[name] for name in sorted(outcomes)]))
    return 0


def _warm_up() -> None:
    """Lower one model, so that what that imports is there in every family's process."""
    for _ in _compared("llama", PHASES):
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
