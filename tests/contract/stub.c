// Stands for libnvinfer, libnvinfer_plugin and libnvonnxparser, so that the bindings can be imported
// and looked at on a machine without TensorRT. Nothing here can be called to any effect.
void* createInferBuilder_INTERNAL() { return 0; }
void* createInferRefitter_INTERNAL() { return 0; }
void* createInferRuntime_INTERNAL() { return 0; }
void* createNvOnnxParser_INTERNAL() { return 0; }
void* createNvOnnxParserRefitter_INTERNAL() { return 0; }
void* getBuilderPluginRegistry() { return 0; }
void* getPluginRegistry() { return 0; }
int getNvOnnxParserVersion() { return 0; }
int initLibNvInferPlugins() { return 1; }
