"""The contract with TensorRT: what the specification names, what is touched besides and why, and what is forbidden."""

SPECIFIED = {
    "Builder": ["create_network", "create_builder_config", "create_optimization_profile", "build_serialized_network", "max_threads"],
    "NetworkDefinitionCreationFlag": ["STRONGLY_TYPED"],
    "OnnxParser": ["parse", "parse_from_file", "load_model_proto", "load_initializer", "parse_model_proto", "num_errors", "get_error",
                   "supports_model_v2", "set_flag"],
    "OnnxParserFlag": ["NATIVE_INSTANCENORM"],
    "IBuilderConfig": ["set_memory_pool_limit", "set_flag", "add_optimization_profile", "builder_optimization_level", "set_timing_cache",
                       "create_timing_cache", "get_timing_cache", "profiling_verbosity", "hardware_compatibility_level", "max_aux_streams",
                       "progress_monitor"],
    "BuilderFlag": ["TF32", "REFIT", "REFIT_IDENTICAL", "STRIP_PLAN", "WEIGHT_STREAMING", "VERSION_COMPATIBLE", "STRICT_NANS",
                    "ERROR_ON_TIMING_CACHE_MISS"],
    "Runtime": ["deserialize_cuda_engine"],
    "ICudaEngine": ["num_io_tensors", "get_tensor_name", "get_tensor_mode", "get_tensor_dtype", "get_tensor_shape",
                    "get_tensor_profile_shape", "create_execution_context", "device_memory_size_v2", "streamable_weights_size",
                    "weight_streaming_budget_v2", "create_engine_inspector", "refittable"],
    "ExecutionContextAllocationStrategy": ["USER_MANAGED"],
    "IExecutionContext": ["set_input_shape", "set_tensor_address", "infer_shapes", "execute_async_v3", "set_optimization_profile_async",
                          "device_memory", "set_device_memory", "set_aux_streams", "get_tensor_shape"],
    "Refitter": ["set_named_weights", "get_missing_weights", "get_all_weights", "get_weights_prototype", "refit_cuda_engine_async"],
}  # fmt: skip
"""Section 8.1, in both families."""

BESIDES = {
    "ILogger": "the vendor's errors go into ours",
    "DataType": "what tensors and weights are made of",
    "TensorIOMode": "inputs and outputs",
    "TensorLocation": "weights that lie on the device",
    "Weights": "a pointer for the refitter",
    "MemoryPoolType": "for set_memory_pool_limit",
    "HardwareCompatibilityLevel": "for hardware_compatibility_level",
    "IOptimizationProfile": "of create_optimization_profile",
    "ITimingCache": "of create_timing_cache",
    "IHostMemory": "of build_serialized_network",
    "INetworkDefinition": "of create_network: shapes of its outputs",
    "ITensor": "an output of a network",
    "ParserError": "of get_error: names of nodes",
    "IBuilderConfig.clear_flag": "TF32 is on by default",
    "Runtime.engine_host_code_allowed": "portable plans have code for the host",
}
"""Touched though not listed there, since what is listed takes or returns it."""

ABSENT_IN_11 = [
    ("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"), ("BuilderFlag", "FP16"), ("BuilderFlag", "BF16"), ("BuilderFlag", "INT8"),
    ("BuilderFlag", "FP8"), ("BuilderFlag", "OBEY_PRECISION_CONSTRAINTS"), ("ITensor", "dynamic_range"), ("ILayer", "precision"),
    ("ILayer", "set_output_type"), ("IInt8Calibrator", ""), ("IBuilderConfig", "algorithm_selector"),
    ("ICudaEngine", "create_execution_context_without_device_memory"), ("ICudaEngine", "device_memory_size"),
    ("ICudaEngine", "weight_streaming_budget"), ("OnnxParser", "supports_model"), ("IPluginRegistry", "get_plugin_creator"),
]  # fmt: skip
ONLY_IN_11 = [
    ("Refitter", "release_refit_resources"),
    ("INetworkDefinition", "add_attention_v2"),
    ("IBuilderConfig", "build_route"),
]


def names(table, kind):
    """Everything that a class of a table has; None where there is no such class."""
    found = table["classes"].get(kind)
    if found is None:
        return None
    return {*found.get("enum", ()), *found.get("methods", ()), *found.get("properties", ()), *found.get("values", ())}


def has(table, kind, name):
    """Whether a table has the class, and the name in it where one is given."""
    found = names(table, kind)
    return found is not None and (not name or name in found)
