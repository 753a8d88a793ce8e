"""Experts as Transformers builds them against the operator that stands for them in a trace."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig
from wscc.frontend.model.aten import Call, Shown, UnsupportedError
from wscc.frontend.model.aten.experts import RULES
from wscc.frontend.model.builder import GraphBuilder
from wscc.frontend.model.experts import IMPLEMENTATION, compute, install, mix
from wscc.frontend.model.gates import Gate, gate_of
from wscc.ir.graph import TensorType
from wscc.ir.interpreter import run_op

TOKENS, EXPERTS, CHOSEN, WIDTH, WIDE = 5, 4, 2, 8, 6

SMALL = {
    "num_local_experts": EXPERTS,
    "num_experts": EXPERTS,
    "n_routed_experts": EXPERTS,
    "moe_num_experts": EXPERTS,
    "num_experts_per_tok": CHOSEN,
    "hidden_size": WIDTH,
    "moe_hidden_size": WIDTH,
    "moe_intermediate_size": WIDE,
    "intermediate_size": WIDE,
    "expert_ffn_hidden_size": WIDE,
    "ffn_hidden_size": WIDE,
    "zero_expert_num": 2,
    "swiglu_limits": None,
}


def small_config(family: str, part: str = "") -> Any:
    config: Any = AutoConfig.for_model(family).get_text_config()
    config = getattr(config, part) if part else config
    for name, value in SMALL.items():
        if hasattr(config, name):
            setattr(config, name, value)
    config._experts_implementation = "eager"
    return config


def randomized(module: nn.Module) -> Any:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return module.eval()


def experts_of(family: str, name: str, part: str = "", **more: Any) -> Any:
    code = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    return randomized(getattr(code, name)(small_config(family, part), **more))


def routed(experts: int = EXPERTS) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    weight, index = torch.rand((TOKENS, experts), generator=generator).topk(CHOSEN)
    return torch.randn((TOKENS, WIDTH), generator=generator), index, weight


CLAMPED = (
    "(minimum(maximum(b, -7.0), 7.0) + 1) * (minimum(a, 7.0) * sigmoid((minimum(a, 7.0) * 1.702)))"
)

INTERFACE: Mapping[tuple[str, str], Gate] = {
    ("mixtral", "MixtralExperts"): Gate("silu(a) * b", interleaved=False),
    ("aria", "AriaExperts"): Gate("silu(a) * b", interleaved=False),
    ("gpt_oss", "GptOssExperts"): Gate(CLAMPED, interleaved=True),
    ("nemotron_h", "NemotronHExperts"): Gate("square(relu(a))", interleaved=False),
    ("muse_spark", "MuseSparkExperts"): Gate("silu(a) * b", interleaved=False),
}
"""The last one has a norm after every expert, which makes it more than one operator."""


@pytest.mark.parametrize(("family", "name"), INTERFACE)
def test_the_operator_computes_what_the_module_does(family: str, name: str) -> None:
    module = experts_of(family, name)
    x, index, weight = routed()
    with torch.no_grad():
        torch.testing.assert_close(mix(module, x, index, weight, compute), module(x, index, weight))
    assert gate_of(module, module.has_gate) == INTERFACE[family, name]


class Holder(nn.Module):
    """A model that holds one module and has a config."""

    def __init__(self, module: nn.Module, config: PretrainedConfig) -> None:
        super().__init__()
        self.module = module
        self.config = config


def installed(module: nn.Module, config: PretrainedConfig) -> Any:
    install(Holder(module, config))
    return module


OUTSIDE = {
    "step3p7": ("Step3p7Experts", "", EXPERTS),
    "longcat_flash": ("LongcatFlashExperts", "", EXPERTS + 2),
    "dbrx": ("DbrxExperts", "ffn_config", EXPERTS),
}


@pytest.mark.parametrize("family", OUTSIDE)
def test_experts_outside_the_interface_get_a_pass_that_computes_the_same(family: str) -> None:
    name, part, experts = OUTSIDE[family]
    module = experts_of(family, name, part)
    x, index, weight = routed(experts)
    with torch.no_grad():
        expected = module(x, index, weight)
        forward = installed(module, AutoConfig.for_model(family)).forward
        torch.testing.assert_close(forward(x, index, weight, run=compute), expected)


def test_a_limit_of_one_module_is_part_of_its_activation() -> None:
    module = experts_of("step3p7", "Step3p7Experts", swiglu_limit=0.5)
    x, index, weight = routed()
    with torch.no_grad():
        expected = module(x, index, weight)
        forward = installed(module, AutoConfig.for_model("step3p7")).forward
        torch.testing.assert_close(forward(x, index, weight, run=compute), expected)


def test_llama_4_runs_only_the_chosen_experts_and_returns_the_same() -> None:
    module = experts_of("llama4", "Llama4TextMoe")
    x, _, _ = routed()
    with torch.no_grad():
        expected = module(x)
        calls: list[tuple[int, ...]] = []

        def counted(tokens: Tensor, *rest: Any, **named: Any) -> Tensor:
            calls.append(tuple(tokens.shape))
            return compute(tokens, *rest, **named)

        forward = installed(module, AutoConfig.for_model("llama4")).forward
        torch.testing.assert_close(forward(x, run=counted), expected)
    assert calls == [(TOKENS * CHOSEN, WIDTH)]


def test_experts_that_only_look_like_known_ones_are_refused_by_name() -> None:
    from transformers.models.step3p7.modeling_step3p7 import Step3p7Experts

    class DoubledExperts(Step3p7Experts):
        def forward(
            self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor
        ) -> Tensor:
            return 2 * super().forward(hidden_states, top_k_index, top_k_weights)

    module = DoubledExperts(small_config("step3p7"))
    with pytest.raises(UnsupportedError, match="DoubledExperts"):
        installed(module, AutoConfig.for_model("step3p7"))


class Activation(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, value: Tensor) -> Tensor:
        return self.function(value)


@pytest.mark.parametrize(
    ("activation", "reason"),
    [
        (lambda x: torch.softmax(x, -1), "softmax"),
        (lambda x: x.roll(1, -1), "roll"),
        (lambda x: x * torch.ones(6), "ones"),
    ],
)
def test_an_activation_that_is_no_expression_is_refused_by_name(
    activation: Callable[[Tensor], Tensor], reason: str
) -> None:
    module = experts_of("mixtral", "MixtralExperts")
    module.act_fn = Activation(activation)
    with pytest.raises(UnsupportedError, match=f"activation of MixtralExperts: .*{reason}"):
        mix(module, *routed(), compute)


def test_a_trace_holds_one_operator_for_each_mixture() -> None:
    config = AutoConfig.for_model(
        "llama4_text",
        hidden_size=32,
        intermediate_size=16,
        intermediate_size_mlp=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=64,
        head_dim=8,
        moe_layers=[0, 1],
    )
    with FakeTensorMode(allow_non_fake_inputs=True):
        model: Any = AutoModelForCausalLM.from_config(config)
        install(model)
        program = torch.export.export(
            model.model.layers[0].feed_forward,
            (torch.zeros(2, 3, 32),),
            dynamic_shapes=({0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")},),
        )
    names = [str(node.target) for node in program.graph.nodes]
    assert names.count("wscc.experts.default") == 1
    assert not any("bmm" in name for name in names)


def test_the_interface_traces_under_symbolic_sizes() -> None:
    module = experts_of("gpt_oss", "GptOssExperts")
    module.config._experts_implementation = IMPLEMENTATION
    batch = torch.export.Dim("batch")
    program = torch.export.export(module, routed(), dynamic_shapes=({0: batch},) * 3)
    (node,) = [n for n in program.graph.nodes if str(n.target) == "wscc.experts.default"]
    assert [*node.meta["val"].shape][1] == WIDTH


@pytest.mark.parametrize(("family", "name"), [*INTERFACE][:-1])
def test_the_rule_makes_an_operator_of_the_same_value(family: str, name: str) -> None:
    module = experts_of(family, name)
    x, index, weight = routed()
    graph = GraphBuilder("main")
    given: dict[str, Tensor] = {}

    def shown(value: Tensor | None, label: str) -> Shown | None:
        if value is None:
            return None
        given[label] = value.detach()
        type_ = TensorType(str(value.dtype).removeprefix("torch."), tuple(value.shape))
        return Shown(graph.add_input(label, type_, "data", label), type_)

    def lowered(*arguments: Any, **named: Any) -> Tensor:
        every = [*arguments, *named.values()]
        labels = ("x", "index", "weight", "up", "down", "up_bias", "down_bias")
        made = [shown(value, label) for value, label in zip(every, labels, strict=False)]
        type_ = TensorType("float32", (TOKENS, WIDTH))
        view = RULES["experts.default"](Call(graph, [*made, *every[7:]], {}, type_, "experts"))
        made_graph = graph.graph()
        made_graph.verify()
        values = dict(given)
        for op in made_graph.ops:
            (values[op.result], *_) = run_op(op, [values[operand] for operand in op.operands])
        assert [op.kind for op in made_graph.ops if op.kind != "reshape"] == ["experts"]
        return values[view.name]

    with torch.no_grad():
        torch.testing.assert_close(mix(module, x, index, weight, lowered), module(x, index, weight))
