"""A `tensorrt` module of a few classes, whose engines are ONNX Runtime on the CPU.

It has the names of the real module that we call and no others (`tests/contract` compares them with
the real bindings), minds what the real one minds (shapes within the profile, all addresses set, a
warm-up before a capture) and counts how often something is deserialised. A plan is the ONNX file.
"""

import enum
import json
import types

import numpy as np

MAGIC = b"stand-in plan\n"


class Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


def _enum(name, *members):
    return enum.Enum(name, members)


DataType = _enum("DataType", "FLOAT", "HALF", "INT8", "INT32", "INT64", "BOOL", "UINT8")
LayerType = _enum(
    "LayerType", "CONVOLUTION", "MATRIX_MULTIPLY", "TOPK", "GATHER", "PLUGIN_V3", "CAST",
    "QUANTIZE", "DEQUANTIZE", "ELEMENTWISE",
)  # fmt: skip
MemoryPoolType = _enum("MemoryPoolType", "WORKSPACE")
Strategy = _enum("ExecutionContextAllocationStrategy", "STATIC", "ON_PROFILE_CHANGE")
Compatibility = _enum(
    "HardwareCompatibilityLevel", "NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"
)
Verbosity = _enum("ProfilingVerbosity", "LAYER_NAMES_ONLY", "DETAILED", "NONE")
Format = _enum("LayerInformationFormat", "ONELINE", "JSON")
ORT_TYPES = {
    "tensor(float)": "FLOAT", "tensor(float16)": "HALF", "tensor(int32)": "INT32",
    "tensor(uint8)": "UINT8", "tensor(int64)": "INT64",
}  # fmt: skip


class CreationFlag(enum.IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class Registry:
    """Creators by (name, version, namespace); libraries by path."""

    def __init__(self, libraries=()):
        self.libraries = dict(libraries)  # path -> list of creators that it registers
        self.creators = set()

    def load_library(self, path):
        found = self.libraries.get(path)
        if not found or self.creators & set(found):
            return None
        self.creators |= set(found)
        return path

    def get_creator(self, name, version, plugin_namespace=""):
        return "a creator" if (name, version, plugin_namespace) in self.creators else None


class State:
    """What a test sets and looks at."""

    def __init__(self, device, libraries=()):
        self.device = device
        self.registry = Registry(libraries)
        self.deserialised = 0
        self.contexts = []
        self.refuse_context = False
        self.refuse_plan = False
        self.stale_graphs = False
        self.build = None  # what a build of the stand-in does instead of succeeding
        self.config = None  # the latest builder configuration


def pack(onnx_bytes, profiles):
    """Return a plan: the profiles and the ONNX file."""
    return MAGIC + json.dumps(profiles).encode() + b"\n" + onnx_bytes


def make(state, version="10.3.0"):
    """Return the module."""
    trt = types.ModuleType("tensorrt")
    trt.__version__ = version

    class ILogger:
        Severity = None

        def __init__(self):
            self.ready = True

    ILogger.Severity = Severity

    class Runtime:
        def __init__(self, logger):
            assert logger.ready
            self.logger = logger

        def get_plugin_registry(self):
            return state.registry

        def deserialize_cuda_engine(self, plan):
            state.deserialised += 1
            if state.refuse_plan or not plan.startswith(MAGIC):
                self.logger.log(Severity.ERROR, "the plan is no plan")
                return None
            return Engine(state, plan)

    class IProgressMonitor:
        def __init__(self):
            self.ready = True

    class Builder:
        def __init__(self, logger):
            assert logger.ready
            self.logger = logger

        def get_plugin_registry(self):
            return state.registry

        def create_network(self, flags):
            strongly_typed = (
                0 if int(version.split(".")[0]) >= 11 else 1 << CreationFlag.STRONGLY_TYPED
            )
            assert flags == strongly_typed, "a network that is not strongly typed"
            return Network()

        def create_builder_config(self):
            state.config = BuilderConfig(version)
            return state.config

        def create_optimization_profile(self):
            return OptimizationProfile()

        def build_serialized_network(self, network, config):
            if state.build is not None:
                return state.build(self.logger, config)
            for step in range(3):
                if step == 0:
                    config.progress_monitor.phase_start("Building", None, 3)
                if not config.progress_monitor.step_complete("Building", step):
                    return None
            config.progress_monitor.phase_finish("Building")
            return pack(network.graph, [profile.ranges for profile in config.profiles])

    class OnnxParser:
        def __init__(self, network, logger):
            self.network, self.errors = network, []

        @property
        def num_errors(self):
            return len(self.errors)

        def get_error(self, index):
            return ParserError(self.errors[index])

        def parse(self, model):
            return self.network.read(
                model, state, tuple(map(int, version.split(".")[:2])), self.errors
            )

    for named in (ILogger, Runtime, IProgressMonitor, Builder, OnnxParser):
        setattr(trt, named.__name__, named)
    trt.DataType, trt.ExecutionContextAllocationStrategy = DataType, Strategy
    trt.LayerInformationFormat, trt.ProfilingVerbosity = Format, Verbosity
    trt.LayerType, trt.MemoryPoolType = LayerType, MemoryPoolType
    trt.BuilderFlag = _enum("BuilderFlag", "TF32")
    trt.NetworkDefinitionCreationFlag = CreationFlag
    levels = ["NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"]
    known = levels if tuple(map(int, version.split(".")[:2])) >= (10, 9) else levels[:2]
    trt.HardwareCompatibilityLevel = _enum("HardwareCompatibilityLevel", *known)
    return trt


class ParserError:
    def __init__(self, text):
        self.text = text

    def desc(self):
        return self.text


class OptimizationProfile:
    def __init__(self):
        self.ranges = {}

    def set_shape(self, input, min, opt, max):
        self.ranges[input] = {"min": list(min), "opt": list(opt), "max": list(max)}


class TimingCache:
    def __init__(self, content):
        self.content = content

    def serialize(self):
        return self.content + b"timed "


class BuilderConfig:
    """What is set is kept for the tests."""

    def __init__(self, version):
        self.version, self.profiles, self.flags_cleared, self.pools = version, [], [], {}
        self.progress_monitor = self.builder_optimization_level = self.profiling_verbosity = None
        self.hardware_compatibility_level = None
        self.timings = None

    def add_optimization_profile(self, profile):
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def clear_flag(self, flag):
        self.flags_cleared.append(flag.name)

    def set_memory_pool_limit(self, pool, pool_size):
        self.pools[pool.name] = pool_size

    def create_timing_cache(self, serialized_timing_cache):
        return TimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache, ignore_mismatch):
        assert ignore_mismatch is False
        if cache.content and not cache.content.startswith(b"timed"):
            return False
        self.timings = cache
        return True

    def get_timing_cache(self):
        return self.timings


class Tensor:
    def __init__(self, dtype):
        self.dtype = dtype


class Layer:
    def __init__(self, kind, dtype):
        self.type, self.output = kind, Tensor(dtype)

    def get_output(self, index):
        assert index == 0
        return self.output


class Network:
    """The layers of an ONNX graph as far as anybody asks for them."""

    def __init__(self):
        self.layers, self.graph = [], b""

    @property
    def num_layers(self):
        return len(self.layers)

    def get_layer(self, index):
        return self.layers[index]

    def read(self, graph, state, version, errors):
        """Take a graph the way the parser of a version would: who computes our operator?"""
        import onnx
        from onnx import shape_inference

        try:
            model = onnx.load_model_from_string(graph)
        except Exception as err:
            errors.append(str(err))
            return False
        self.graph = graph
        functions = {function.name for function in model.functions}
        inferred = shape_inference.infer_shapes(model)
        types = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
        for node in model.graph.node:
            dtype = DataType.HALF if types.get(node.output[0]) == 10 else DataType.FLOAT
            kinds = {
                "Conv": "CONVOLUTION",
                "MatMul": "MATRIX_MULTIPLY",
                "QuantizeLinear": "QUANTIZE",
            }
            kind = kinds.get(node.op_type, "ELEMENTWISE")
            if node.op_type == "CstlPartGather":
                plugin = state.registry.get_creator(node.op_type, "1", "cstl_edge") is not None
                body = node.op_type in functions
                if not plugin and not body:
                    errors.append("Plugin not found: CstlPartGather")
                    return False
                kind = "PLUGIN_V3" if plugin and (version >= (10, 7) or not body) else "TOPK"
            self.layers.append(Layer(LayerType[kind], dtype))
        return True


class Engine:
    """ONNX Runtime behind the methods that we call."""

    def __init__(self, state, plan):
        import onnxruntime as ort

        _, profiles, onnx_bytes = plan.split(b"\n", 2)
        self.state, self.profiles = state, json.loads(profiles)
        self.session = ort.InferenceSession(onnx_bytes, providers=["CPUExecutionProvider"])
        self.types = {
            value.name: DataType[ORT_TYPES[value.type]]
            for value in (*self.session.get_inputs(), *self.session.get_outputs())
        }
        self.inputs = [value.name for value in self.session.get_inputs()]

    def create_engine_inspector(self):
        return Inspector(self)

    @property
    def num_io_tensors(self):
        return len(self.types)

    def get_tensor_name(self, index):
        return list(self.types)[index]

    def get_tensor_dtype(self, name):
        return self.types[name]

    def create_execution_context(self, strategy):
        if self.state.refuse_context:
            return None
        self.state.contexts.append(Context(self))
        return self.state.contexts[-1]


class Inspector:
    def __init__(self, engine):
        self.engine = engine

    def get_engine_information(self, format):
        assert format is Format.JSON
        layers = [
            {"Name": n, "Outputs": [{"Format/Datatype": t.name}]}
            for n, t in self.engine.types.items()
        ]
        return json.dumps({"Layers": layers})


class Context:
    """Shapes, addresses, and a run that reads and writes memory."""

    def __init__(self, engine):
        self.engine, self.profile = engine, None
        self.shapes, self.addresses, self.outputs = {}, {}, {}
        self.warm = False
        self.runs = 0

    def set_optimization_profile_async(self, index, stream):
        assert stream in self.engine.state.device.streams
        self.profile = self.engine.profiles[index]
        return True

    def set_input_shape(self, name, shape):
        assert self.profile is not None
        limits = self.profile[name]
        self.shapes[name] = shape
        triples = zip(limits["min"], shape, limits["max"], strict=True)
        return all(low <= size <= high for low, size, high in triples)

    def infer_shapes(self):
        missing = [name for name in self.engine.inputs if name not in self.shapes]
        if not missing:
            feed = {name: np.ones(shape, self._dtype(name)) for name, shape in self.shapes.items()}
            found = self.engine.session.run(None, feed)
            names = [value.name for value in self.engine.session.get_outputs()]
            self.outputs = {n: array.shape for n, array in zip(names, found, strict=True)}
        return missing

    def get_tensor_shape(self, name):
        return (self.shapes | self.outputs)[name]

    def set_tensor_address(self, name, memory):
        self.addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle):
        assert set(self.addresses) == set(self.engine.types), "addresses are missing"
        device = self.engine.state.device
        if device.recording is not None and not self.warm:
            return False  # the first run allocates, which no capture allows
        self.warm = True
        device.put(stream_handle, self._compute)
        return True

    def _compute(self):
        self.runs += 1
        feed = {name: self._array(name, shape).copy() for name, shape in self.shapes.items()}
        names = [value.name for value in self.engine.session.get_outputs()]
        found = self.engine.session.run(names, feed)
        if self.engine.state.stale_graphs and self.engine.state.device.replays:
            return  # as a graph that replays what was there before
        for name, array in zip(names, found, strict=True):
            self._array(name, array.shape)[...] = array

    def _dtype(self, name):
        return {"FLOAT": np.float32, "HALF": np.float16, "INT32": np.int32, "UINT8": np.uint8}[
            self.engine.types[name].name
        ]

    def _array(self, name, shape):
        memory = self.engine.state.device.memory[self.addresses[name]]
        dtype = np.dtype(self._dtype(name))
        count = int(np.prod(shape))
        assert count * dtype.itemsize <= len(memory), "a buffer is too small"
        return np.frombuffer(memory, dtype, count).reshape(shape)
