"""A `tensorrt` module of a few classes, whose engines are ONNX Runtime on the CPU.

It has the names of the real module that we call and no others (`tests/contract` compares them with
the real bindings), minds what the real one minds (shapes within the profile, all addresses set, a
warm-up before a capture) and counts how often something is deserialised. A plan is the ONNX file.
"""

import ctypes
import enum
import json
import types

import numpy as np

MAGIC = b"stand-in plan\n"
SCRATCH_PER_ELEMENT = 8  # bytes that a context needs for each number of its inputs


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
Strategy = _enum("ExecutionContextAllocationStrategy", "STATIC", "USER_MANAGED")
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
    """Creators by (name, version, namespace); libraries by path. A child sees its parent's."""

    def __init__(self, libraries=(), parent=None):
        self.libraries = dict(libraries)  # path -> list of creators that it registers
        self.creators, self.parent = set(), parent

    def load_library(self, path):
        found = self.libraries.get(path)
        if not found or self.known & set(found):
            return None
        self.creators |= set(found)
        return path

    @property
    def known(self):
        return self.creators | (self.parent.known if self.parent else set())

    @property
    def all_creators(self):
        keys = ("name", "plugin_version", "plugin_namespace")
        creators = [dict(zip(keys, creator, strict=True)) for creator in sorted(self.known)]
        return [
            types.SimpleNamespace(name="Older_TRT"),
            *(types.SimpleNamespace(**creator) for creator in creators),
        ]


class State:
    """What a test sets and looks at."""

    def __init__(self, device, libraries=()):
        self.device = device
        self.registry = Registry(libraries)  # the process's; builders and runtimes have their own
        self.registered = []  # creators that those came to know
        self.sizes_unknown = False  # whether contexts cannot say how much memory they need
        self.start_error = None  # what a new builder or runtime logs
        self.deserialised = 0
        self.contexts = []
        self.refuse_context = False
        self.refuse_plan = False
        self.stale_graphs = False
        self.build = None  # what a build of the stand-in does instead of succeeding
        self.config = None  # the latest builder configuration


def pack(onnx_bytes, profiles, plugin=False):
    """Return a plan: the profiles, whether it needs the plugin, and the ONNX file."""
    header = {"profiles": profiles, "plugin": plugin}
    return MAGIC + json.dumps(header).encode() + b"\n" + onnx_bytes


def make(state, version="10.3.0"):
    """Return the module."""
    trt = types.ModuleType("tensorrt")
    trt.__version__ = version

    class ILogger:
        Severity = None

        def __init__(self):
            self.ready = True

    ILogger.Severity = Severity

    class Owner:
        """A builder or a runtime: its registry is its own."""

        def __init__(self, logger):
            assert logger.ready
            self.logger = logger
            self.registry = LocalRegistry(state)
            if state.start_error:
                logger.log(Severity.ERROR, state.start_error)

        def get_plugin_registry(self):
            assert not state.start_error, "a call that would end the process"
            return self.registry

    class Runtime(Owner):
        def deserialize_cuda_engine(self, plan):
            state.deserialised += 1
            if state.refuse_plan or not plan.startswith(MAGIC):
                self.logger.log(Severity.ERROR, "the plan is no plan")
                return None
            if json.loads(plan.split(b"\n", 2)[1])["plugin"] and not self.registry.known:
                self.logger.log(Severity.ERROR, "IPluginCreator not found in Plugin Registry")
                return None
            return Engine(state, plan)

    class IProgressMonitor:
        def __init__(self):
            self.ready = True

    class Builder(Owner):
        def create_network(self, flags):
            strongly_typed = (
                0 if int(version.split(".")[0]) >= 11 else 1 << CreationFlag.STRONGLY_TYPED
            )
            assert flags == strongly_typed, "a network that is not strongly typed"
            return Network(self.registry)

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
            plugin = any(layer.type is LayerType.PLUGIN_V3 for layer in network.layers)
            return pack(network.graph, [profile.ranges for profile in config.profiles], plugin)

    class OnnxParser:
        def __init__(self, network, logger):
            self.network, self.errors = network, []

        @property
        def num_errors(self):
            return len(self.errors)

        def get_error(self, index):
            return ParserError(self.errors[index])

        def parse(self, model):
            return self.network.read(model, tuple(map(int, version.split(".")[:2])), self.errors)

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


class LocalRegistry(Registry):
    """The registry of one builder or runtime."""

    def __init__(self, state):
        super().__init__(state.registry.libraries, state.registry)
        self.state = state

    def load_library(self, path):
        handle = super().load_library(path)
        self.state.registered += self.creators
        return handle


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

    def __init__(self, registry):
        self.layers, self.graph, self.registry = [], b"", registry

    @property
    def num_layers(self):
        return len(self.layers)

    def get_layer(self, index):
        return self.layers[index]

    def read(self, graph, version, errors):
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
                wanted = {a.name: a.s.decode() for a in node.attribute}
                key = (node.op_type, wanted["plugin_version"], wanted["plugin_namespace"])
                plugin = key in self.registry.known
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

        _, header, onnx_bytes = plan.split(b"\n", 2)
        self.state, self.profiles = state, json.loads(header)["profiles"]
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

    @property
    def num_optimization_profiles(self):
        return len(self.profiles)

    def get_device_memory_size_for_profile_v2(self, profile_index):
        limits = self.profiles[profile_index]
        return SCRATCH_PER_ELEMENT * sum(int(np.prod(limits[n]["max"])) for n in self.inputs)

    def create_execution_context(self, strategy):
        assert strategy is Strategy.USER_MANAGED
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
        self.scratch = None  # address and size of the memory that it may compute in

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

    def update_device_memory_size_for_shapes(self):
        if self.engine.state.sizes_unknown:
            return 0
        return SCRATCH_PER_ELEMENT * sum(int(np.prod(shape)) for shape in self.shapes.values())

    def set_device_memory(self, memory, size):
        assert memory in self.engine.state.device.memory
        self.scratch, self.warm = (memory, size), False

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
        memory, size = self.scratch
        place = self.engine.state.device.memory[memory]  # it must still be there
        assert len(place) == size >= self.update_device_memory_size_for_shapes()
        ctypes.memset(place, 0xEE, size)  # whatever anybody left there is gone
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
