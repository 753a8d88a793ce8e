"""The small commands: `wscc check`, `wscc show`, `wscc cache`."""

import sys
from typing import Any

from .. import __version__
from ..ir.graph import Graph, Model
from ..ir.store import Store
from ..ir.text import print_model
from ..report.json_report import print_json
from ..report.quantities import size
from . import pipeline
from .arguments import Cache, Check, Show
from .run import load_graph


def carry_out(command: Check | Show | Cache) -> int:
    """Carry out a command; the exit code. Raises UserError."""
    match command:
        case Check():
            return check(command)
        case Show():
            return show(command)
        case Cache():
            return cache(command)


def check(command: Check) -> int:
    """Validate a spec and summarize its design; 1 where a constraint is broken."""
    from ..frontend.hardware import summary

    space = pipeline.load_hardware(command.hardware)
    hardware = pipeline.bind(space, dict(command.overrides))
    facts = summary(hardware)
    holds = all(line.holds for line in hardware.constraints)
    if command.talk.json:
        constraints = [
            {"text": line.text, "left": line.left, "right": line.right, "holds": line.holds}
            for line in hardware.constraints
        ]
        report = {
            "schema": "wscc.check/1",
            "wscc_version": __version__,
            "name": space.name,
            "feasible": holds,
            "facts": {fact.key: fact.value for fact in facts if fact.label != "constraint"},
            "constraints": constraints,
        }
        sys.stdout.write(print_json(report))
    else:
        width = max(len(fact.label) for fact in facts)
        verdict = "valid" if holds else "valid, but a constraint is broken"
        lines = [f"{space.name}: {verdict}"]
        lines += [f"  {fact.label:<{width}}  {fact.text}" for fact in facts]
        sys.stdout.write("\n".join(lines) + "\n")
    return 0 if holds else 1


def show(command: Show) -> int:
    """Print the model graph of a config."""
    config = pipeline.read_config(command.model, command.dtype)
    model = load_graph(config, command.phase, Store() if command.cache else None)
    sys.stdout.write(print_json(_model_json(model)) if command.talk.json else print_model(model))
    return 0


def _model_json(model: Model) -> dict[str, Any]:
    return {
        "schema": "wscc.model/1",
        "wscc_version": __version__,
        "name": model.name,
        "phase": model.phase,
        "dtype": model.dtype,
        "parameters": model.parameters,
        "layers": model.layers,
        "flops": str(model.flops),
        "graphs": {name: _graph_json(graph) for name, graph in model.graphs.items()},
    }


def _graph_json(graph: Graph) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": i.name, "type": str(i.type), "role": i.role, "source": i.source}
            for i in graph.inputs
        ],
        "ops": [
            {
                "kind": op.kind,
                "operands": op.operands,
                "results": op.results,
                "types": [str(type_) for type_ in op.types],
                "attributes": dict(op.attributes),
                "path": op.path,
            }
            for op in graph.ops
        ],
        "outputs": [{"name": o.name, "role": o.role, "source": o.source} for o in graph.outputs],
    }


def cache(command: Cache) -> int:
    """List what is cached, or remove all of it."""
    store = Store()
    removed = store.clear() if command.clear else None
    entries = store.entries()
    total = sum(entry.bytes for entry in entries)
    if command.talk.json:
        report = {
            "schema": "wscc.cache/1",
            "wscc_version": __version__,
            "folder": str(store.folder),
            "removed": removed,
            "bytes": total,
            "entries": [
                {"kind": entry.kind, "key": entry.key, "bytes": entry.bytes} for entry in entries
            ],
        }
        sys.stdout.write(print_json(report))
    elif removed is not None:
        sys.stdout.write(f"{store.folder}: {removed} entries removed\n")
    else:
        lines = [f"{store.folder}: {len(entries)} entries, {size(total)}"]
        lines += [f"  {e.kind:<8} {e.key[:12]}  {size(e.bytes)}" for e in entries]
        sys.stdout.write("\n".join(lines) + "\n")
    return 0
