"""wscc: large language models compiled onto wafer-scale chips.

    model   = wscc.load_model("llama.json", phase="decode", batch=8, context=4096)
    space   = wscc.load_hardware("wafer.wsc")
    wafer   = space.bind()
    program = wscc.compile(model, wafer)
    result  = wscc.evaluate(program, fidelity="fluid")
    wscc.save(result, "out/")

Nothing is imported before it is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cli.operators import op
    from .cli.pipeline import (
        compile,  # noqa: A004
        evaluate,
        load_hardware,
        load_model,
        save,
        verify,
    )

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "compile",
    "evaluate",
    "load_hardware",
    "load_model",
    "op",
    "save",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "op":
        from .cli.operators import op

        return op
    if name in __all__:
        from .cli import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
