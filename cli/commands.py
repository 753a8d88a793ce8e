"""The small commands: `wscc show`, `wscc cache`."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..ir.graph import Graph, Model
from ..ir.store import Store
from ..ir.summary import ModelSummary, summarize
from ..ir.text import print_model
from ..report import files
from ..report.json_report import print_json
from ..report.model_table import model_table
from ..report.quantities import size
from . import pipeline
from .asked import Cache, Show
from .run import load_graph

if TYPE_CHECKING:
    pass


def carry_out(command: Show | Cache) -> int:
    """Carry out a command; the exit code. Raises UserError."""
    match command:
        case Show():
            return show(command)
        case Cache():
            return cache(command)


def show(command: Show) -> int:
    """Print what a config's model holds and does, and its graph; with `-o` draw it too."""
    if command.directory is not None:
        files.check_folder(command.directory)
    config = pipeline.read_config(command.model, command.options)
    sizes = {"batch": command.batch, "sequence": command.sequence, "context": command.context}
    store = Store() if command.cache else None
    graph = load_graph(config, command.phase, sizes, store)
    model = pipeline.clean(pipeline.with_load(graph, command.options))
    summary = summarize(model.bind(sizes))
    wanted = command.talk.json or command.directory is not None
    report = print_json(_model_json(model, summary, sizes)) if wanted else ""
    table = model_table(_title(model, sizes), summary)
    text = "".join(f"# {line}".rstrip() + "\n" for line in table.splitlines()) + print_model(model)
    if command.directory is not None:
        from ..report.model_picture import model_svg

        drawn = {"model.txt": text, "model.json": report, "model.svg": model_svg(model)}
        files.save_files(command.directory, drawn)
    sys.stdout.write(report if command.talk.json else text)
    return 0


def _title(model: Model, sizes: Mapping[str, int]) -> str:
    named = "context" if model.phase == "decode" else "sequence"
    return (
        f"{model.name}, {model.phase}, {model.dtype}, batch {sizes['batch']}, "
        f"{named} {sizes[named]}"
    )


def _model_json(model: Model, summary: ModelSummary, sizes: Mapping[str, int]) -> dict[str, Any]:
    return {
        "schema": "wscc.model/1",
        "wscc_version": __version__,
        "name": model.name,
        "phase": model.phase,
        "dtype": model.dtype,
        **sizes,
        "layers": model.layers,
        "parameters": summary.parameters,
        "buffers": dict(summary.buffers),
        "flops": summary.flops,
        "flops_formula": str(model.flops),
        "weight_bytes": summary.weight_bytes,
        "weight_bytes_by_dtype": dict(summary.stored_bytes),
        "cache_bytes": summary.cache_bytes,
        "saved_bytes": summary.saved_bytes,
        "expert_load": summary.expert_load,
        "by_graph": [asdict(part) for part in summary.graphs],
        "by_kind": [asdict(part) for part in summary.kinds],
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
