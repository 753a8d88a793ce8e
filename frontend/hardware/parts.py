"""The parts of a spec that contain no others: technology, software, memory, link, switch.

What each holds is in fields.py; cores are core.py, what is larger die.py and wafer.py.
"""

from dataclasses import replace
from typing import Any

from ...ir import hardware as ir
from ...ir import technology as made_of
from ...ir.errors import UserError
from .fields import DTYPES, PARTS
from .read import inner, read, read_field
from .view import View


def technology(view: View) -> made_of.Technology:
    """The energies and densities of a process; raises UserError, as all of these do."""
    if view.scope.changes:
        return _technology(view)
    key = ("technology", view.scope.prefix, id(view.block))
    return view.scope.binding.remembered(key, lambda: _technology(view))


def _technology(view: View) -> made_of.Technology:
    values, sram = read(view, PARTS["technology"]), block(view, "sram")
    density = values["defect_density"]
    defects = made_of.Defects(density, values["yield_model"], values["clustering"])
    return made_of.Technology(
        name=view.path[0],
        multiply_add_energy_j=by_dtype(view, "multiply_add"),
        sram_read_energy_j_per_byte=sram["read"],
        sram_write_energy_j_per_byte=sram["write"],
        router_energy_j_per_byte=values["router"],
        wire_energy_j_per_byte_m=values["wire"],
        leakage_w_per_m2=values["leakage"],
        densities=_densities(view, sram, values["tsv"]),
        defects=None if density is None else defects,
        wafer_cost_usd=values["wafer_cost"],
    )


def _densities(view: View, sram: dict[str, Any], tsv: Any) -> made_of.Densities:
    area = block(view, "area") if inner(view, "area") else {}
    return made_of.Densities(
        multiply_add_m2={
            torch: area[name] for name, torch in DTYPES.items() if area.get(name) is not None
        },
        sram_cell_m2_per_byte=sram["cell"],
        sram_efficiency=sram["efficiency"],
        sram_port_m2_per_byte=sram["port"],
        router_m2_per_byte=area.get("router"),
        router_buffer_m2_per_byte=area.get("router_buffer") or 0.0,
        router_base_m2=area.get("router_base") or 0.0,
        tsv_bytes_per_s_per_m2=tsv,
        sram_leakage_w_per_m2=sram["leakage"],
    )


def software(view: View) -> ir.Software:
    """The overheads of a software stack."""
    values = read(view, PARTS["software"])
    return ir.Software(
        name=view.path[0],
        issue_cycles=values["issue"],
        launch_cycles=values["launch"],
        block_cycles=values["block"],
        host_cycles=values["host"],
        sustained=values["sustained"],
        dropout=values["dropout"] == "yes",
    )


def link(view: View, clock_hz: Any) -> made_of.Link:
    """What joins dies or wafers; `clock_hz` turns a latency in cycles into seconds."""
    values = read(view, PARTS["link"], clock_hz)
    if (values["share"] is None) == (values["bandwidth"] is None):
        raise UserError(
            f"{view.label}: expected one of share and bandwidth, got "
            f"{'neither' if values['share'] is None else 'both'}",
            view.block.location,
        )
    return made_of.Link(
        name=view.path[0],
        share=values["share"],
        bandwidth_bytes_per_s=values["bandwidth"],
        latency_s=values["latency"],
        energy_j_per_byte=values["energy"],
        sustained=values["sustained"],
        gap_m=values["gap"],
        edge_bytes_per_s_per_m=values["edge"],
        phy_depth_m=values["phy_depth"],
        known_good=values["known_good"] == "yes",
        bonding_yield=values["bonding_yield"],
        cost_usd=values["cost"],
    )


def gap_m(view: View) -> Any:
    """The distance that a link leaves between two dies."""
    return read_field(view, "gap", PARTS["link"].fields["gap"])


def bandwidth_link(view: View) -> made_of.Link:
    """A link to a switch or between wafers, which no share of a mesh describes."""
    made = link(view, None)
    if made.bandwidth_bytes_per_s is None:
        raise UserError(
            f"{view.label}: a link to a switch or between wafers needs a bandwidth, not a share",
            view.block.location,
        )
    return made


def switch(view: View) -> made_of.Switch:
    """What dies or wafers meet in."""
    values = read(view, PARTS["switch"])
    return made_of.Switch(
        name=view.path[0],
        ports=values["ports"],
        bandwidth_bytes_per_s=values["bandwidth"],
        latency_s=values["latency"],
        energy_j_per_byte=values["energy"],
        power_w=values["power"],
        count=values["count"],
        cost_usd=values["cost"],
    )


def memory(view: View, where: str) -> made_of.Memory:
    """One stack of memory, of a `memory` part or block, on a `die` or `board`."""
    values = read(view, PARTS["memory"])
    external = values["kind"] == "external"
    name = str(view.block.name)
    location = view.fields["kind"].value.location
    if external != (where == "board"):
        where_else = "a wafer or node" if external else "a die"
        raise UserError(f"{view.label}: {values['kind']} memory stands in {where_else}", location)
    if external and values["via"] is None:
        raise UserError(f"{view.label}: external memory needs 'via', an edge with io", location)
    if not external and values["via"] is not None:
        raise UserError(f"{view.label}: only external memory is via an edge", location)
    if not external and values["bandwidth"] is None:
        raise UserError(f"{view.label}: field bandwidth is missing", view.block.location)
    return made_of.Memory(
        name=name,
        kind=values["kind"],
        capacity_bytes=values["capacity"],
        bandwidth_bytes_per_s=values["bandwidth"],
        energy_j_per_byte=values["energy"],
        latency_s=values["latency"],
        sustained=values["sustained"],
        via=values["via"],
        edge_m=values["edge"],
        phy_area_m2=values["phy_area"],
        power_w=values["power"],
        cost_usd=values["cost"],
    )


def stacks(one: made_of.Memory, count: Any) -> made_of.Memory:
    """Several equal stacks as one memory."""
    assert one.bandwidth_bytes_per_s is not None
    return replace(
        one,
        capacity_bytes=count * one.capacity_bytes,
        bandwidth_bytes_per_s=count * one.bandwidth_bytes_per_s,
        count=count,
        edge_m=count * one.edge_m,
        phy_area_m2=count * one.phy_area_m2,
        power_w=count * one.power_w,
        cost_usd=count * one.cost_usd,
    )


def declared_size(view: View) -> tuple[Any, Any] | None:
    """Height and width of a core, die or wafer in metres, where its block says them."""
    return read_field(view, "size", PARTS[view.block.kind].fields["size"])


def block(view: View, kind: str, clock_hz: Any = None) -> dict[str, Any]:
    """The fields of the block of a kind, which is there."""
    return read(inner(view, kind)[0], PARTS[view.block.kind].blocks[kind], clock_hz)


def by_dtype(view: View, kind: str) -> dict[str, Any]:
    """A block with a figure by dtype, by torch's names; at least one must be given."""
    values = block(view, kind)
    found = {DTYPES[name]: value for name, value in values.items() if value is not None}
    if not found:
        inside = inner(view, kind)[0]
        raise UserError(
            f"{inside.label}: expected a figure for at least one of {', '.join(DTYPES)}",
            inside.block.location,
        )
    return found


def stated_areas(view: View) -> dict[str, Any]:
    """The areas of a part's `area` block that are given, by name."""
    if not inner(view, "area"):
        return {}
    return {name: value for name, value in block(view, "area").items() if value is not None}


def dimensions(size: tuple[Any, Any]) -> str:
    """Height and width in metres, for a person."""
    if max(size) < 1e-3:
        return f"{size[0] * 1e6:.4g} um x {size[1] * 1e6:.4g} um"
    return f"{size[0] * 1e3:.4g} mm x {size[1] * 1e3:.4g} mm"
