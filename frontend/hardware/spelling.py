"""Names in all blocks of a file: a misspelt one is refused where its block does not exist, too.

A block whose `when` does not hold is not read; what its fields are worth is not known then.
"""

from . import syntax
from .fields import PARTS, SYSTEM, BlockSpec
from .files import SourceFile
from .read import unknown


def check_spelling(file: SourceFile) -> None:
    """Raise UserError for a field or block that a part or block of the file cannot have."""
    for part in file.parts.values():
        if isinstance(part, syntax.Block):
            _check(part, PARTS[part.kind], part.title)
    if file.system is not None:
        _check(file.system, SYSTEM, file.system.title)


def _check(block: syntax.Block, spec: BlockSpec, label: str) -> None:
    known = [*spec.fields, *spec.blocks]
    for item in block.items:
        match item:
            case syntax.Field() if item.name not in spec.fields:
                raise unknown(label, "field", item.name, known, item.location)
            case syntax.Block():
                inner = spec.blocks.get(item.kind)
                if inner is None:
                    raise unknown(label, "block", item.kind, known, item.location)
                _check(item, inner, f"{label}: {item.title}")
            case _:
                pass
