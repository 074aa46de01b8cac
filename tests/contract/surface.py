"""Every name of `tensorrt` and `cuda.bindings` that this package calls, with its arguments.

`run.py` compares it with the real wheels; `test_surface.py` holds it against our sources and the
stand-ins, so that it can neither fall behind nor run ahead.
"""

METHODS = {
    "Builder.build_serialized_network": ("network", "config"),
    "Builder.create_builder_config": (),
    "Builder.create_network": ("flags",),
    "Builder.create_optimization_profile": (),
    "Builder.get_plugin_registry": (),
    "EngineInspector.get_engine_information": ("format",),
    "IBuilderConfig.add_optimization_profile": ("profile",),
    "IBuilderConfig.clear_flag": ("flag",),
    "IBuilderConfig.create_timing_cache": ("serialized_timing_cache",),
    "IBuilderConfig.get_timing_cache": (),
    "IBuilderConfig.set_memory_pool_limit": ("pool", "pool_size"),
    "IBuilderConfig.set_timing_cache": ("cache", "ignore_mismatch"),
    "ICudaEngine.create_engine_inspector": (),
    "ICudaEngine.create_execution_context": ("strategy",),
    "ICudaEngine.get_device_memory_size_for_profile_v2": ("profile_index",),
    "ICudaEngine.get_tensor_dtype": ("name",),
    "ICudaEngine.get_tensor_name": ("index",),
    "IExecutionContext.execute_async_v3": ("stream_handle",),
    "IExecutionContext.get_tensor_shape": ("name",),
    "IExecutionContext.infer_shapes": (),
    "IExecutionContext.set_device_memory": ("memory", "size"),
    "IExecutionContext.set_input_shape": ("name", "shape"),
    "IExecutionContext.set_optimization_profile_async": ("profile_index", "stream_handle"),
    "IExecutionContext.set_tensor_address": ("name", "memory"),
    "IExecutionContext.update_device_memory_size_for_shapes": (),
    "ILayer.get_output": ("index",),
    "INetworkDefinition.get_layer": ("index",),
    "IOptimizationProfile.set_shape": ("input", "min", "opt", "max"),
    "IPluginRegistry.load_library": ("plugin_path",),
    "ITimingCache.serialize": (),
    "OnnxParser.get_error": ("index",),
    "OnnxParser.parse": ("model",),
    "ParserError.desc": (),
    "Runtime.deserialize_cuda_engine": ("serialized_engine",),
    "Runtime.get_plugin_registry": (),
}
"""Arguments that we give, in their order; a real signature may go on after them."""

OVERRIDDEN = {
    "ILogger.log": ("severity", "msg"),
    "IProgressMonitor.phase_start": ("phase_name", "parent_phase", "num_steps"),
    "IProgressMonitor.step_complete": ("phase_name", "step"),
    "IProgressMonitor.phase_finish": ("phase_name",),
}
"""What TensorRT calls in classes of ours."""

READ = [
    "ICudaEngine.num_io_tensors",
    "ICudaEngine.num_optimization_profiles",
    "ILayer.type",
    "INetworkDefinition.num_layers",
    "IPluginRegistry.all_creators",
    "ITensor.dtype",
]
READ += ["OnnxParser.num_errors"]
WRITTEN = ["builder_optimization_level", "hardware_compatibility_level", "profiling_verbosity"]
WRITTEN += ["progress_monitor"]
"""Attributes of IBuilderConfig."""

CONSTRUCTED = {"Builder": ("logger",), "OnnxParser": ("network", "logger"), "Runtime": ("logger",)}

MEMBERS = {
    "BuilderFlag": ["TF32"],
    "DataType": ["FLOAT", "HALF", "INT32", "UINT8"],
    "ExecutionContextAllocationStrategy": ["USER_MANAGED"],
    "HardwareCompatibilityLevel": ["AMPERE_PLUS"],
    "LayerInformationFormat": ["JSON"],
    "LayerType": [
        "CONVOLUTION", "DEQUANTIZE", "MATRIX_MULTIPLY", "PLUGIN_V3", "QUANTIZE", "TOPK",
    ],
    "MemoryPoolType": ["WORKSPACE"],
    "ProfilingVerbosity": ["DETAILED"],
}  # fmt: skip

SINCE = {
    ("HardwareCompatibilityLevel", "SAME_COMPUTE_CAPABILITY"): (10, 9),
    ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"): (10, 3),
}
"""Asked for only from these versions on, with a clear word before."""

CUDA = {
    "cudaEventCreate": 0, "cudaEventDestroy": 1, "cudaEventElapsedTime": 2, "cudaEventRecord": 2,
    "cudaFree": 1, "cudaFreeHost": 1, "cudaDriverGetVersion": 0, "cudaGetDevice": 0,
    "cudaGetDeviceProperties": 1, "cudaGetErrorString": 1, "cudaGraphDestroy": 1,
    "cudaGraphExecDestroy": 1, "cudaGraphInstantiate": 2, "cudaGraphLaunch": 2,
    "cudaHostAlloc": 2, "cudaHostGetDevicePointer": 2, "cudaMalloc": 1, "cudaMemsetAsync": 4,
    "cudaMallocHost": 1, "cudaMemGetInfo": 0, "cudaMemcpyAsync": 5, "cudaStreamBeginCapture": 2,
    "cudaStreamCreateWithFlags": 1, "cudaStreamDestroy": 1, "cudaStreamEndCapture": 1,
    "cudaStreamSynchronize": 1,
}  # fmt: skip
"""Functions of `cuda.bindings.runtime` with the number of their arguments."""

CUDA_NAMES = ["cudaMemcpyKind.cudaMemcpyHostToDevice", "cudaMemcpyKind.cudaMemcpyDeviceToHost"]
CUDA_NAMES += ["cudaMemcpyKind.cudaMemcpyDeviceToDevice", "cudaHostAllocMapped"]
CUDA_NAMES += ["cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal", "cudaStreamNonBlocking"]
CUDA_NAMES += ["cudaDeviceProp.name", "cudaDeviceProp.major", "cudaDeviceProp.minor"]
CUDA_NAMES += ["cudaDeviceProp.integrated", "cudaDeviceProp.multiProcessorCount"]
