"""Operation counts: against the published figures, against torch's own counter, node by node."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from standin_bench import GOLDEN

from cstl_edge.bench.roofline.op_count import compose, count_cost
from cstl_edge.errors import ModelError


def model_of(nodes, inputs, constants, outputs=("y",), kind=TensorProto.FLOAT, opset=17):
    """A graph whose inputs have free sizes."""
    value = helper.make_tensor_value_info
    given = [value(name, kind, [None] * rank) for name, rank in inputs.items()]
    ends = [value(name, TensorProto.FLOAT, None) for name in outputs]
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", given, ends, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def floats(*sizes):
    return np.ones(sizes, np.float32)


# The released network at 64×44 with 32 parts, as its weights are published: c out, c in / groups,
# then the kernel (facts of section 10). Frames are 30.
TRUNK = {"conv1": (32, 1), "conv2": (64, 32), "conv3": (128, 64), "conv4": (128, 128)}
PARTS, CHANNELS, HIDDEN, FRAMES = 32, 128, 24, 30
TEMPORAL = {
    "short.0": (PARTS * CHANNELS, CHANNELS, 3),
    "short.1": (PARTS * CHANNELS, CHANNELS, 3),
    "score.0": (PARTS * 8, CHANNELS, 1),
    "score.3": (PARTS * CHANNELS, 8, 1),
    "in_conv": (PARTS * HIDDEN, 3 * CHANNELS, 1),
    "out_conv": (PARTS * 3 * CHANNELS, HIDDEN, 1),
    "part_score.0": (PARTS * HIDDEN, 3 * CHANNELS, 1),
    "part_score.3": (PARTS, HIDDEN, 1),
    "decay": (PARTS * CHANNELS, 3 * CHANNELS, 1),
}


def published():
    """Each layer of the released network on inputs of its own, and the sizes of those."""
    nodes, constants, inputs, sizes, outputs = [], {}, {}, {}, []

    def convolution(name, weights, size, **options):
        constants[f"{name}.w"] = floats(*weights)
        inputs[f"{name}.x"], sizes[f"{name}.x"] = len(size), size
        options |= {"kernel_shape": weights[2:], "pads": [weights[2] // 2] * 2 * len(weights[2:])}
        nodes.append(helper.make_node("Conv", [f"{name}.x", f"{name}.w"], [name], name, **options))
        outputs.append(name)

    for name, (out, given) in TRUNK.items():
        high, wide = (64, 44) if name in ("conv1", "conv2") else (32, 22)
        convolution(name, (out, given, 3, 3), (FRAMES, given, high, wide))
    for name, weights in TEMPORAL.items():
        convolution(name, weights, (1, weights[1] * PARTS, FRAMES), group=PARTS)
    constants["fc_bin"] = floats(PARTS, 3 * CHANNELS, 256)
    inputs["fc.x"], sizes["fc.x"] = 3, (PARTS, 1, 3 * CHANNELS)
    nodes.append(helper.make_node("MatMul", ["fc.x", "fc_bin"], ["fc"], "fc"))
    return model_of(nodes, inputs, constants, [*outputs, "fc"]), sizes


def test_the_published_network_costs_what_was_published():
    cost = count_cost(*published())
    assert cost.total_macs == pytest.approx(6426e6, rel=1e-4)
    per_frame = {name: macs / FRAMES / 1e6 for name, macs in cost.nodes.items()}
    trunk = [per_frame[name] for name in TRUNK]
    assert trunk == pytest.approx([0.8, 51.9, 51.9, 103.8], abs=0.05)
    modules = {
        "short": ("short.0", "short.1"),
        "decay": ("decay",),
        "ata": ("in_conv", "out_conv"),
        "score": ("part_score.0", "part_score.3"),
        "long": ("score.0", "score.3"),
    }
    actual = {name: sum(per_frame[layer] for layer in layers) for name, layers in modules.items()}
    expected = {"short": 3.15, "decay": 1.57, "ata": 0.59, "score": 0.30, "long": 0.07}
    assert actual == pytest.approx(expected, abs=0.005)
    assert cost.nodes["fc"] == pytest.approx(3.146e6, rel=1e-3)
    assert cost.macs == {"float32": cost.total_macs}
    assert cost.weight_bytes == pytest.approx(4 * 9.07e6, rel=0.002)  # norms are not in it


# Operation, sizes of its input and of the constants behind it, multiply-adds, attributes.
@pytest.mark.parametrize(
    ("operation", "size", "behind", "macs", "attributes"),
    [
        ("Conv", (5, 4, 8, 9), {"w": (6, 2, 3, 3)}, 5 * 6 * 6 * 7 * 2 * 9, {"group": 2}),
        ("ConvTranspose", (5, 4, 8, 9), {"w": (4, 3, 2, 2)}, 5 * 4 * 8 * 9 * 3 * 4,
         {"strides": [2, 2]}),
        ("MatMul", (5, 4, 8, 9), {"w": (4, 9, 7)}, 5 * 4 * 8 * 7 * 9, {}),
        ("Gemm", (8, 9), {"w": (7, 8), "b": (7,)}, 9 * 7 * 8, {"transA": 1, "transB": 1}),
        ("Einsum", (8, 9), {"w": (9, 7)}, 8 * 9 * 7, {"equation": "ab, bc -> ac"}),
        ("MaxPool", (1, 1, 8, 8), {}, 0, {"kernel_shape": [2, 2]}),
    ],
)  # fmt: skip
def test_every_kind_of_node_is_counted(operation, size, behind, macs, attributes):
    node = helper.make_node(operation, ["x", *behind], ["y"], **attributes)
    constants = {name: floats(*sizes) for name, sizes in behind.items()}
    cost = count_cost(model_of([node], {"x": len(size)}, constants), {"x": size})
    assert cost.total_macs == macs
    assert cost.weight_bytes == sum(array.nbytes for array in constants.values())
    assert cost.input_bytes == 4 * np.prod(size)
    assert cost.intermediate_bytes == 0


def test_integer_products_are_int8():
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    model = model_of([node], {"x": 2}, {"w": np.ones((9, 7), np.int8)}, kind=TensorProto.UINT8)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    cost = count_cost(model, {"x": (8, 9)})
    assert cost.macs == {"int8": 8 * 9 * 7}
    assert (cost.input_bytes, cost.weight_bytes, cost.output_bytes) == (72, 63, 4 * 56)


def test_tensors_between_nodes_are_written_once_and_read_by_each():
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Reshape", ["a", "flat"], ["b"]),  # a view: nothing moves
        helper.make_node("Exp", ["a"], ["c"]),
        helper.make_node("Neg", ["b"], ["d"]),
        helper.make_node("Reshape", ["d", "square"], ["e"]),
        helper.make_node("Add", ["c", "e"], ["y"]),
    ]
    constants = {"flat": np.array([12]), "square": np.array([3, 4])}
    cost = count_cost(model_of(nodes, {"x": 2}, constants), {"x": (3, 4)})
    tensor = 4 * 12
    assert cost.intermediate_bytes == 3 * tensor + 4 * tensor  # a, c, d; a twice, c and d
    assert cost.output_bytes == tensor


def test_weights_that_are_computed_from_weights_count_as_they_are_read():
    nodes = [
        helper.make_node("Cast", ["half"], ["w"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    half = np.ones((90, 70), np.float16)
    cost = count_cost(model_of(nodes, {"x": 2}, {"half": half}), {"x": (8, 90)})
    assert cost.weight_bytes == 4 * half.size
    assert cost.total_macs == 8 * 90 * 70


def test_int8_graphs_multiply_and_move_int8():
    plain, cost, half = (
        count_cost(onnx.load(GOLDEN / "tiny_reduced" / name), {"silhouettes": (3, 16, 12)})
        for name in ("frames.onnx", "frames.int8.onnx", "frames.fp16.onnx")
    )
    per_pixel = 9 * (4 + 4 * 8 + (8 * 16 + 16 * 16) // 4)  # the pool quarters the pixels
    assert plain.macs == {"float32": 3 * 16 * 12 * per_pixel}
    assert cost.macs == {"int8": plain.total_macs}
    assert half.macs == {"float16": plain.total_macs}
    weights = 9 * (4 + 4 * 8 + 8 * 16 + 16 * 16)
    assert plain.weight_bytes == pytest.approx(4 * weights, abs=100)
    assert cost.weight_bytes == pytest.approx(weights, abs=100)
    assert half.weight_bytes == pytest.approx(2 * weights, abs=100)
    assert cost.intermediate_bytes < half.intermediate_bytes < plain.intermediate_bytes
    assert cost.input_bytes == plain.input_bytes == 3 * 16 * 12


@pytest.mark.parametrize("graph", ["frames", "head"])
def test_the_count_is_that_of_torch(graph):
    torch = pytest.importorskip("torch")
    flops = pytest.importorskip("torch.utils.flop_counter")
    from cstl_edge.export import graphs
    from cstl_edge.model import Cstl, CstlConfig

    network = Cstl(CstlConfig(size=(16, 12), widths=(4, 8, 16, 32), parts=4, embedding=8))
    network = network.eval().fused()
    features, lengths = torch.rand(2, 7, 4, 32), torch.tensor([7, 5], dtype=torch.int32)
    cases = {
        "frames": (graphs.Frames, (torch.zeros(3, 16, 12, dtype=torch.uint8),)),
        "head": (graphs.Head, (features, lengths)),
    }
    kind, given = cases[graph]
    module = kind(network).eval()
    with flops.FlopCounterMode(display=False) as counter, torch.no_grad():
        if graph == "frames":  # the tracer casts before the network does
            network.frame_features(*given)
        else:
            module(*given)
    model = graphs.build_graph(network, graph)
    sizes = {value.name: tuple(x.shape) for value, x in zip(model.graph.input, given, strict=True)}
    assert count_cost(model, sizes).total_macs == counter.get_total_flops() // 2


def test_a_composition_is_its_parts():
    folder = GOLDEN / "tiny"
    frames = count_cost(onnx.load(folder / "frames.onnx"), {"silhouettes": (10, 16, 12)})
    sizes = {"features": (2, 5, 4, 16), "lengths": (2,)}
    head = count_cost(onnx.load(folder / "head.onnx"), sizes)
    both = compose(frames, head)
    sizes = {"silhouettes": (2, 5, 16, 12), "lengths": (2,)}
    full = count_cost(onnx.load(folder / "full.onnx"), sizes)
    assert both.total_macs == frames.total_macs + head.total_macs == full.total_macs
    assert both.input_bytes == full.input_bytes == 10 * 16 * 12 + 2 * 4
    assert both.output_bytes == full.output_bytes
    assert both.weight_bytes == pytest.approx(full.weight_bytes, abs=100)
    moved = 2 * frames.output_bytes
    assert both.intermediate_bytes == moved + frames.intermediate_bytes + head.intermediate_bytes


def test_sizes_that_the_graph_cannot_have_are_refused():
    model = onnx.load(GOLDEN / "tiny" / "frames.onnx")
    for sizes, message in (
        ({"features": (1, 16, 12)}, "expected sizes of silhouettes; got features"),
        ({"silhouettes": (1, 8, 8)}, r"expected sizes that silhouettes can have; got \[1, 8"),
        ({"silhouettes": (16, 12)}, "got"),
    ):
        with pytest.raises(ModelError, match=message):
            count_cost(model, sizes)


def test_sizes_that_do_not_go_together_are_refused():
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    with pytest.raises(ModelError, match="cannot count: ") as error:
        count_cost(model_of([node], {"x": 2}, {"w": floats(9, 7)}), {"x": (8, 5)})
    assert "\n" not in str(error.value)


def test_a_size_that_follows_from_values_is_refused():
    nodes = [
        helper.make_node("NonZero", ["x"], ["found"]),
        helper.make_node("Cast", ["found"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["t"]),
        helper.make_node("MatMul", ["t", "f"], ["y"]),
    ]
    with pytest.raises(ModelError, match="does not follow from the inputs"):
        count_cost(model_of(nodes, {"x": 2}, {}), {"x": (3, 3)})
