"""A `.wsc` file becomes a hardware space, and a choice of its parameters becomes Hardware."""

from .files import find_spec, source_files
from .space import HardwareSpace, load_hardware
from .summary import Fact, Source, summary

__all__ = [
    "Fact",
    "HardwareSpace",
    "Source",
    "find_spec",
    "load_hardware",
    "source_files",
    "summary",
]
