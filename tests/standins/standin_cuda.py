"""A GPU of numpy arrays: memory on the host, a stream that records while captured, faults at will.

`Device` is the GPU; `NumpyBuffers` speaks our protocol over it, `bindings` and `pycuda` stand in
for the libraries that the real buffers call, with the names and the manners of the real ones.
"""

import ctypes
import enum
import time
import types

import numpy as np

OUT_OF_MEMORY, NO_DEVICE, GONE, NO_CAPTURE = 2, 100, 719, 900  # numbers of cudaError_t


class Fault(Exception):
    """What the driver of the stand-in refuses."""

    def __init__(self, code):
        super().__init__({0: "no error", OUT_OF_MEMORY: "out of memory"}.get(code, "unspecified"))
        self.code = code


class Device:
    """Host memory by address, and one recording at a time."""

    def __init__(self, name="Orin", sm=87, free=6 * 2**30, total=8 * 2**30):
        self.name, self.sm, self.free, self.total = name, sm, free, total
        self.multiprocessors = 8  # of an Orin Nano and NX; an AGX Orin has 16
        self.memory = {}
        self.streams = set()
        self.events = []
        self.recording = None
        self.graphs = {}
        self.replays = 0
        self.copies = []
        self.fault = None  # a code, until somebody clears it
        self.graphs_allowed = True
        self._numbers = iter(range(1000, 10**9))

    def check(self):
        if self.fault is not None:
            raise Fault(self.fault)

    def allocate(self, nbytes):
        self.check()
        if nbytes > self.free:
            raise Fault(OUT_OF_MEMORY)
        buffer = (ctypes.c_uint8 * nbytes).from_buffer_copy(b"\xcd" * nbytes)  # never zeros by luck
        self.memory[ctypes.addressof(buffer)] = buffer
        return ctypes.addressof(buffer)

    def release(self, pointer):
        del self.memory[pointer]

    def stream(self):
        self.check()
        self.streams.add(number := next(self._numbers))
        return number

    def put(self, stream, work):
        """Do something in a stream's order, or only note it while the stream is captured."""
        assert stream in self.streams, "work in a stream that is not ours"
        self.check()
        if self.recording is not None:
            self.recording.append(work)
        else:
            work()

    def move(self, stream, target, source, nbytes):
        """Copy within the GPU's memory."""
        self.note("copy", target, nbytes)
        self.put(stream, lambda: copy(target, source, nbytes))

    def note(self, kind, address, nbytes):
        """Note a copy for the tests: `upload` to, `download` from, `copy` to an address."""
        self.copies.append((kind, address, nbytes))

    def begin(self):
        self.check()
        if not self.graphs_allowed:
            raise Fault(NO_CAPTURE)
        assert self.recording is None
        self.recording = []

    def end(self):
        recorded, self.recording = self.recording, None
        self.graphs[number := next(self._numbers)] = recorded
        return number

    def replay(self, graph):
        self.check()
        self.replays += 1
        for work in self.graphs[graph]:
            work()


class Event:
    """A moment in a stream."""

    seconds = None

    def happen(self):
        self.seconds = time.perf_counter()

    def since(self, first):
        assert None not in (self.seconds, first.seconds), "an event that has not happened"
        return (self.seconds - first.seconds) * 1e3


def copy(target, source, nbytes):
    ctypes.memmove(target, source, nbytes)


class NumpyBuffers:
    """The protocol, spoken plainly."""

    name = "numpy"

    def __init__(self, device):
        from cstl_edge.runtime.cuda.base import CudaError

        self.device_, self.error, self.given = device, CudaError, []
        self.stream = self._ask(device.stream)
        self.closed = False

    def gpu(self):
        from cstl_edge.runtime.cuda.base import Gpu

        d = self.device_
        return Gpu(d.name, d.sm, d.free, d.total, d.sm in (87, 110), "12.6", d.multiprocessors)

    def device(self, nbytes):
        self.given.append(self._ask(self.device_.allocate, nbytes))
        return self.given[-1]

    def release(self, pointer):
        self.given.remove(pointer)
        self.device_.release(pointer)

    def pinned(self, shape, dtype):
        pointer = self.device(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        array = np.frombuffer(self.device_.memory[pointer], dtype).reshape(shape)
        array.fill(0)
        return array

    def mapped(self, shape, dtype):
        array = self.pinned(shape, dtype)
        return array, array.ctypes.data

    def copy(self, target, source, nbytes):
        self._ask(self.device_.move, self.stream, target, source, nbytes)

    def zero(self, target, nbytes):
        self._ask(self.device_.put, self.stream, lambda: ctypes.memset(target, 0, nbytes))

    def upload(self, target, source):
        self.device_.note("upload", target, source.nbytes)
        work = lambda: copy(target, source.ctypes.data, source.nbytes)  # noqa: E731
        self._ask(self.device_.put, self.stream, work)

    def download(self, target, source):
        self.device_.note("download", source, target.nbytes)
        work = lambda: copy(target.ctypes.data, source, target.nbytes)  # noqa: E731
        self._ask(self.device_.put, self.stream, work)

    def synchronize(self):
        self._ask(self.device_.check)

    def capture(self, work):
        self._ask(self.device_.begin)
        try:
            work()
        finally:
            graph = self.device_.end()
        return graph

    def replay(self, graph):
        self._ask(self.device_.replay, graph)

    def event(self):
        return Event()

    def mark(self, event):
        self._ask(self.device_.put, self.stream, event.happen)

    def elapsed_ms(self, first, second):
        return second.since(first)

    def close(self):
        if not self.closed:
            self.closed = True
            self.device_.streams.discard(self.stream)
            for pointer in self.given:
                self.device_.release(pointer)

    def _ask(self, function, *arguments):
        try:
            return function(*arguments)
        except Fault as err:
            raise self.error(f"{err} (CUDA error {err.code})") from err


def bindings(device):
    """`cuda`, `cuda.bindings` and `cuda.bindings.runtime`, by the name to import."""

    class Error(enum.IntEnum):
        cudaSuccess = 0
        cudaErrorMemoryAllocation = OUT_OF_MEMORY
        cudaErrorNoDevice = NO_DEVICE
        cudaErrorLaunchFailure = GONE
        cudaErrorStreamCaptureUnsupported = NO_CAPTURE

    def answer(function):
        def called(*arguments):
            try:
                found = function(*arguments)
            except Fault as err:
                return (Error(err.code), None)
            return (Error(0), *found) if isinstance(found, tuple) else (Error(0), found)

        return called

    def bare(function):
        called = answer(function)
        return lambda *arguments: called(*arguments)[:1]

    runtime = types.ModuleType("cuda.bindings.runtime")
    runtime.cudaStreamNonBlocking = 1
    runtime.cudaMemcpyKind = types.SimpleNamespace(
        cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3
    )
    runtime.cudaStreamCaptureMode = types.SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    runtime.cudaGetErrorString = lambda error: (Error(0), str(Fault(int(error))).encode())
    runtime.cudaGetDevice = answer(lambda: 0)
    runtime.cudaGetDeviceProperties = answer(
        lambda _: types.SimpleNamespace(
            name=device.name.encode() + b"\0" * 8,
            major=device.sm // 10,
            minor=device.sm % 10,
            integrated=int(device.sm in (87, 110)),
            multiProcessorCount=device.multiprocessors,
        )
    )
    runtime.cudaMemGetInfo = answer(lambda: (device.free, device.total))
    runtime.cudaDriverGetVersion = answer(lambda: 12060)
    runtime.cudaStreamCreateWithFlags = answer(lambda flags: device.stream())
    runtime.cudaStreamDestroy = bare(device.streams.remove)
    runtime.cudaStreamSynchronize = bare(lambda stream: device.check())
    runtime.cudaMalloc = runtime.cudaMallocHost = answer(device.allocate)
    runtime.cudaFree = runtime.cudaFreeHost = bare(device.release)
    runtime.cudaHostAllocMapped = 2
    runtime.cudaHostAlloc = answer(lambda nbytes, flags: device.allocate(nbytes))
    runtime.cudaHostGetDevicePointer = answer(lambda pointer, flags: pointer)
    runtime.cudaMemsetAsync = bare(
        lambda target, value, count, stream: device.put(
            stream, lambda: ctypes.memset(target, value, count)
        )
    )
    runtime.cudaMemcpyAsync = bare(
        lambda target, source, count, kind, stream: device.put(
            stream, lambda: copy(target, source, count)
        )
    )
    runtime.cudaStreamBeginCapture = bare(lambda stream, mode: device.begin())
    runtime.cudaStreamEndCapture = answer(lambda stream: device.end())
    runtime.cudaGraphInstantiate = answer(lambda graph, flags: graph)
    runtime.cudaGraphDestroy = bare(lambda graph: None)
    runtime.cudaGraphExecDestroy = bare(lambda graph: device.graphs.pop(graph))
    runtime.cudaEventCreate = answer(lambda: device.events.append(Event()) or device.events[-1])
    runtime.cudaEventRecord = bare(lambda event, stream: device.put(stream, event.happen))
    runtime.cudaEventElapsedTime = answer(lambda first, second: second.since(first))
    runtime.cudaEventDestroy = bare(device.events.remove)
    runtime.cudaGraphLaunch = bare(lambda graph, stream: device.replay(graph))
    cuda, package = types.ModuleType("cuda"), types.ModuleType("cuda.bindings")
    package.__version__, package.runtime, cuda.bindings = "12.9", runtime, package
    return {"cuda": cuda, "cuda.bindings": package, "cuda.bindings.runtime": runtime}


def pycuda(device):
    """`pycuda` and `pycuda.driver` by the name to import, and the driver's library for ctypes."""
    driver = types.ModuleType("pycuda.driver")
    contexts = []

    class Error(Exception):
        pass

    def asked(function, *arguments):
        try:
            return function(*arguments)
        except Fault as err:
            raise Error(str(err)) from err

    class Context:
        def push(self):
            contexts.append(self)

        @staticmethod
        def pop():
            contexts.pop()

        @staticmethod
        def get_device():
            return Device_(0)

    class Device_:
        def __init__(self, number):
            assert number == 0

        def retain_primary_context(self):
            asked(device.check)
            return Context()

        def compute_capability(self):
            return divmod(device.sm, 10)

        def get_attribute(self, attribute):
            return {18: int(device.sm in (87, 110)), 16: device.multiprocessors}[attribute]

        def name(self):
            return device.name

    class Stream:
        handle = None

        def __init__(self, flags=0):
            assert contexts, "a stream without a context"
            assert flags == 1
            self.handle = asked(device.stream)

        def synchronize(self):
            asked(device.check)

        def __del__(self):
            device.streams.discard(self.handle)

    class Allocation:
        pointer = None

        def __init__(self, nbytes):
            self.pointer = asked(device.allocate, nbytes)

        def __int__(self):
            return self.pointer

        def __del__(self):
            if self.pointer is not None:
                device.release(self.pointer)

    class Event_:
        def __init__(self):
            asked(device.check)
            self.event = Event()

        def record(self, stream):
            asked(device.put, stream.handle, self.event.happen)

        def time_since(self, first):
            return self.event.since(first.event)

    def pagelocked_zeros(shape, dtype, order="C", mem_flags=0):
        asked(device.check)
        zeros = np.zeros(shape, dtype)
        return np.asarray(PagelockedAllocation(zeros)) if mem_flags else zeros

    class PagelockedAllocation:
        """The `base` of a mapped array, which knows the GPU's pointer."""

        def __init__(self, zeros):
            self.__array_interface__, self.zeros = zeros.__array_interface__, zeros

        def get_device_pointer(self):
            return self.zeros.ctypes.data

    driver.Error, driver.Device, driver.Stream, driver.Event = Error, Device_, Stream, Event_
    driver.init = lambda: asked(device.check)
    driver.mem_alloc, driver.pagelocked_zeros = Allocation, pagelocked_zeros
    driver.mem_get_info = lambda: (device.free, device.total)
    driver.get_driver_version = lambda: 12060
    driver.device_attribute = types.SimpleNamespace(INTEGRATED=18, MULTIPROCESSOR_COUNT=16)
    driver.host_alloc_flags = types.SimpleNamespace(DEVICEMAP=2)
    driver.memcpy_dtod_async = lambda target, source, size, stream: asked(
        device.put, stream.handle, lambda: copy(target, source, size)
    )
    driver.memset_d8_async = lambda target, value, count, stream: asked(
        device.put, stream.handle, lambda: ctypes.memset(target, value, count)
    )
    driver.memcpy_htod_async = lambda target, source, stream: asked(
        device.put, stream.handle, lambda: copy(target, source.ctypes.data, source.nbytes)
    )
    driver.memcpy_dtoh_async = lambda target, source, stream: asked(
        device.put, stream.handle, lambda: copy(target.ctypes.data, source, target.nbytes)
    )
    package = types.ModuleType("pycuda")
    package.VERSION_TEXT, package.driver = "2026.1", driver
    driver.contexts = contexts  # for the tests
    return {"pycuda": package, "pycuda.driver": driver}, _driver_library(device)


def _driver_library(device):
    """`libcuda.so.1` as far as graphs go."""

    def numbered(function):
        def called(*arguments):
            try:
                function(*arguments)
            except Fault as err:
                return err.code
            return 0

        return called

    def end(stream, out):
        out._obj.value = device.end()

    def instantiate(out, graph, flags):
        out._obj.value = graph.value

    return types.SimpleNamespace(
        cuStreamBeginCapture_v2=numbered(lambda stream, mode: device.begin()),
        cuStreamEndCapture=numbered(end),
        cuGraphInstantiateWithFlags=numbered(instantiate),
        cuGraphDestroy=numbered(lambda graph: None),
        cuGraphExecDestroy=numbered(lambda graph: device.graphs.pop(graph.value)),
        cuGraphLaunch=numbered(lambda graph, stream: device.replay(graph.value)),
    )
