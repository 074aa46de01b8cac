"""Part gather: plain loop, torch operator, ONNX function and compiled code agree bit for bit."""

import ctypes
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the operator and the ONNX function need torch")

from plain_part_gather import onnx_function, plain_loop  # noqa: E402

from cstl_edge.model import part_gather  # noqa: E402
from cstl_edge.runtime.tensorrt import plugin  # noqa: E402

needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="running the kernel needs an NVIDIA GPU"
    ),
]
BITS = {torch.float32: torch.int32, torch.float16: torch.int16}
HUGE_BYTES = 8 * 2**30  # free on the GPU, for features of more than 2^31 elements


def inputs(shape, dtype, scores="normal", lengths="full"):
    """Random features and the wanted kind of scores and lengths, the same at every call."""
    n, s, p, _ = shape
    random = torch.Generator().manual_seed(hash(shape) % 2**31)
    bits = torch.iinfo(BITS[dtype])
    features = torch.randint(bits.min, bits.max, shape, generator=random, dtype=BITS[dtype])
    features = features.view(dtype).nan_to_num(math.nan, math.inf, -math.inf)  # one kind of NaN
    values = {
        "normal": torch.randn(n, p, s, generator=random),
        "tied": torch.randint(-2, 3, (n, p, s), generator=random).float(),
        "zeros": torch.tensor([0.0, -0.0])[torch.randint(0, 2, (n, p, s), generator=random)],
        "nan": torch.randint(-1, 2, (n, p, s), generator=random).float() * math.inf,  # 0 · inf
        "only nan": torch.full((n, p, s), math.nan),
    }
    ends = {
        "full": torch.full((n,), s),
        "one": torch.ones(n),
        "ragged": torch.randint(1, s + 1, (n,), generator=random),
        "not allowed": torch.tensor([0, -1, s + 1, 2**31 - 1, -(2**31)])[torch.arange(n) % 5],
    }
    return features, values[scores].to(dtype), ends[lengths].int()


@pytest.fixture(scope="module")
def compiled(libraries):
    """The compiled library that is nearest to what ships: the plugin where it was built."""
    return plugin.load(libraries[-1])


def call(compiled, features, scores, lengths, stream=None):
    """Run the kernel on tensors of a GPU, its rule on those of the CPU."""
    n, s, p, c = features.shape
    salient = features.new_zeros(n, p, c)
    frames = lengths.new_full((n, p), -1)
    tensors = [x.data_ptr() for x in (features, scores, lengths, salient, frames)]
    dtype = plugin.DTYPES[str(features.dtype).removeprefix("torch.")]
    dims = ctypes.byref(plugin.Dims(n, p, s, c))
    if features.is_cuda:
        stream = torch.cuda.current_stream().cuda_stream if stream is None else stream
        code = compiled.cstlPartGather(*tensors, dims, dtype, stream)
    else:
        code = compiled.cstlPartGatherHost(*tensors, dims, dtype)
    assert code == 0, compiled.cstlPartGatherError(code)
    return salient, frames


def assert_same(actual, expected):
    """Compare numbers by their bits, so that NaN equals itself and -0 differs from 0."""
    for one, other in zip(actual, expected, strict=True):
        one, other = (x.cpu().numpy().view(f"i{x.element_size()}") for x in (one, other))
        np.testing.assert_array_equal(one, other)


CASES = {
    "random": ((3, 30, 4, 16),),
    "tied": ((3, 33, 4, 16), "tied"),
    "zeros of both signs": ((3, 33, 4, 16), "zeros"),
    "nan and infinities": ((3, 70, 4, 16), "nan"),
    "nan and infinities, ragged": ((7, 70, 4, 16), "nan", "ragged"),
    "nothing but nan": ((3, 33, 4, 16), "only nan", "ragged"),
    "one frame": ((3, 1, 4, 16),),
    "length 1": ((3, 30, 4, 16), "tied", "one"),
    "ragged": ((9, 100, 4, 16), "normal", "ragged"),
    "lengths out of 1..s": ((5, 30, 4, 16), "tied", "not allowed"),
    "5 channels, not aligned": ((3, 30, 3, 5), "tied", "ragged"),
    "n 256": ((256, 30, 8, 32), "tied", "ragged"),
    "s 720": ((2, 720, 8, 32), "tied", "ragged"),
    "c 256": ((4, 30, 8, 256), "tied", "ragged"),
    "p 64": ((4, 30, 64, 32), "tied", "ragged"),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
each_dtype = pytest.mark.parametrize("dtype", BITS, ids=str)


def arguments(case, dtype):
    shape, *kinds = case
    return inputs(shape, dtype, *kinds)


@each_case
@each_dtype
@pytest.mark.parametrize("computed", [part_gather, onnx_function], ids=["torch", "onnx"])
def test_operator_and_function_equal_the_plain_loop(case, dtype, computed):
    tensors = arguments(case, dtype)
    assert_same(computed(*tensors), plain_loop(*tensors))


@each_case
@each_dtype
def test_the_compiled_rule_equals_the_plain_loop(case, dtype, compiled):
    tensors = arguments(case, dtype)
    assert_same(call(compiled, *tensors), plain_loop(*tensors))


@pytest.mark.parametrize("where", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_invalid_arguments_return_an_error_code(where, compiled):
    run = compiled.cstlPartGatherHost if where == "cpu" else compiled.cstlPartGather
    last = () if where == "cpu" else (None,)
    for dims, dtype in [
        ((2, 3, 0, 4), 0),
        ((-1, 3, 5, 4), 0),
        ((2, 3, 2**31, 4), 0),
        ((2, 3, 5, 4), 2),
    ]:
        code = run(*[None] * 5, ctypes.byref(plugin.Dims(*dims)), dtype, *last)
        assert compiled.cstlPartGatherError(code) == b"invalid argument", (dims, dtype)
    assert run(*[None] * 5, ctypes.byref(plugin.Dims(0, 3, 5, 4)), 0, *last) == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_the_kernel_gives_a_code(compiled):
    dims = ctypes.byref(plugin.Dims(1, 1, 1, 1))
    code = compiled.cstlPartGather(*[None] * 5, dims, 0, None)
    assert compiled.cstlPartGatherError(code) not in (b"no error", b"invalid argument")


class TestKernel:
    """The same on a GPU."""

    pytestmark = needs_gpu

    @each_case
    @each_dtype
    def test_equals_the_plain_loop(self, case, dtype, compiled):
        tensors = arguments(case, dtype)
        assert_same(call(compiled, *(x.cuda() for x in tensors)), plain_loop(*tensors))

    @each_dtype
    def test_takes_an_address_that_is_not_aligned(self, dtype, compiled):
        features, scores, lengths = inputs((3, 30, 4, 16), dtype, "tied", "ragged")
        shifted = torch.empty(features.numel() + 1, dtype=dtype, device="cuda")[1:]
        shifted = shifted.view_as(features).copy_(features)
        actual = call(compiled, shifted, scores.cuda(), lengths.cuda())
        assert_same(actual, plain_loop(features, scores, lengths))

    def test_is_recorded_into_a_graph(self, compiled):
        first = inputs((3, 30, 4, 16), torch.float16, "tied", "ragged")
        second = inputs((3, 30, 4, 16), torch.float16, "normal", "full")
        held = [x.cuda() for x in first]
        call(compiled, *held)  # the module is loaded before the capture
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = call(compiled, *held)
        for tensors in (second, first):
            for slot, tensor in zip(held, tensors, strict=True):
                slot.copy_(tensor)
            graph.replay()
            torch.cuda.synchronize()
            assert_same(outputs, plain_loop(*tensors))

    def test_reaches_beyond_2_to_the_31_elements(self, compiled):
        n, p, s, c = 256, 64, 720, 256  # 3.0e9 elements
        if torch.cuda.mem_get_info()[0] < HUGE_BYTES:
            pytest.skip(f"needs {HUGE_BYTES / 2**30:g} GB of free GPU memory")
        features = torch.empty(n, s, p, c, dtype=torch.int16, device="cuda").random_(
            -(2**15), 2**15
        )
        _, scores, lengths = inputs((n, s, p, 1), torch.float16, "tied", "ragged")
        actual = call(compiled, features.view(torch.float16), scores.cuda(), lengths.cuda())
        expected = part_gather(
            features.new_zeros(n, s, p, 1).half(), scores.cuda(), lengths.cuda()
        )[1]
        sequences = torch.arange(n, device="cuda")[:, None]
        parts = torch.arange(p, device="cuda")
        chosen = features[sequences, expected.long(), parts]  # [n, p, c]
        assert torch.equal(actual[1], expected)
        assert torch.equal(actual[0].view(torch.int16), chosen)
