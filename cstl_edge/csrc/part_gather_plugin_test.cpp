// SPDX-License-Identifier: Apache-2.0
//
// The plugin as TensorRT sees it, without TensorRT: what it is called, what it accepts, what it refuses.
// Returns 1 at the first difference. Refusals are meant to be told on stderr.
#include "part_gather.cuh"

#include <NvInferRuntime.h>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <memory>

extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& nbCreators);
extern "C" void setLoggerFinder(nvinfer1::ILoggerFinder* finder);

using namespace nvinfer1;

namespace
{

class Log final : public ILogger, public ILoggerFinder
{
public:
    void log(Severity, char const* text) noexcept override
    {
        ++lines;
        std::fprintf(stderr, "told: %s\n", text);
    }

    ILogger* findLogger() override
    {
        return this;
    }

    int32_t lines{0};
};

struct Size final : IDimensionExpr
{
};

struct Builder final : IExprBuilder
{
};

constexpr int64_t kBIG{1 << 30};

bool gFailed{false};
int32_t gRefusals{0};

void check(bool holds, char const* what)
{
    if (!holds)
    {
        std::fprintf(stderr, "does not hold: %s\n", what);
        gFailed = true;
    }
}

//! A call that must fail, and be told to the logger.
void checkRefused(int32_t code, char const* what)
{
    check(code != 0, what);
    ++gRefusals;
}

DynamicPluginTensorDesc desc(Dims dims, DataType type, TensorFormat format = TensorFormat::kLINEAR)
{
    return {{dims, type, format, 1.0F}, dims, dims, dims};
}

struct Inputs
{
    DynamicPluginTensorDesc descs[3];
    PluginTensorDesc plain[3];

    Inputs(Dims features, Dims scores, Dims lengths, DataType type = DataType::kHALF)
        : descs{desc(features, type), desc(scores, type), desc(lengths, DataType::kINT32)}
        , plain{descs[0].desc, descs[1].desc, descs[2].desc}
    {
    }
};

void checkTypes(IPluginV3OneBuild& build)
{
    using T = DataType;
    T outputs[2]{};
    T const half[]{T::kHALF, T::kHALF, T::kINT32}, mixed[]{T::kHALF, T::kFLOAT, T::kINT32};
    check(build.getOutputDataTypes(outputs, 2, half, 3) == 0, "FP16 is accepted");
    check(outputs[0] == T::kHALF && outputs[1] == T::kINT32, "FP16 gives FP16 and INT32");
    checkRefused(build.getOutputDataTypes(outputs, 2, mixed, 3), "mixed types are refused");
    Dims const any{1, {1}};
    DynamicPluginTensorDesc all[5]{
        desc(any, T::kFLOAT), desc(any, T::kFLOAT), desc(any, T::kINT32), desc(any, T::kFLOAT), desc(any, T::kINT32)};
    for (int32_t pos = 0; pos < 5; ++pos)
    {
        check(build.supportsFormatCombination(pos, all, 3, 2), "FP32, linear, is supported");
        all[pos].desc.format = TensorFormat::kCHW32;
        check(!build.supportsFormatCombination(pos, all, 3, 2), "no other format is");
        all[pos].desc.format = TensorFormat::kLINEAR;
    }
    all[0].desc.type = T::kHALF;
    check(!build.supportsFormatCombination(1, all, 3, 2), "scores of another type than features are not supported");
    check(!build.supportsFormatCombination(3, all, 3, 2), "salient of another type than features is not supported");
    all[0].desc.type = T::kINT8;
    check(!build.supportsFormatCombination(0, all, 3, 2), "INT8 is not supported");
    all[2].desc.type = T::kINT64;
    check(!build.supportsFormatCombination(2, all, 3, 2), "INT64 lengths are not supported");
}

void checkOutputShapes(IPluginV3OneBuild& build)
{
    Size n, p, s, c;
    DimsExprs const inputs[]{{4, {&n, &s, &p, &c}}, {3, {&n, &p, &s}}, {1, {&n}}};
    DimsExprs outputs[2]{};
    Builder builder;
    check(build.getOutputShapes(inputs, 3, nullptr, 0, outputs, 2, builder) == 0, "shapes are given");
    check(outputs[0].nbDims == 3 && outputs[0].d[0] == &n && outputs[0].d[1] == &p && outputs[0].d[2] == &c,
        "salient is [n, p, c]");
    check(outputs[1].nbDims == 2 && outputs[1].d[0] == &n && outputs[1].d[1] == &p, "frames is [n, p]");
    DimsExprs const flat[]{{3, {&n, &p, &s}}, {3, {&n, &p, &s}}, {1, {&n}}};
    checkRefused(build.getOutputShapes(flat, 3, nullptr, 0, outputs, 2, builder), "features of rank 3 are refused");
    checkRefused(build.getOutputShapes(inputs, 2, nullptr, 0, outputs, 2, builder), "two inputs are refused");
}

void checkShapes(IPluginV3OneBuild& build, IPluginV3OneRuntime& runtime)
{
    struct
    {
        char const* name;
        Inputs inputs;
        bool accepted;
    } const cases[]{
        {"a usual shape", {{4, {2, 30, 16, 128}}, {3, {2, 16, 30}}, {1, {2}}}, true},
        {"2^31 - 1 elements", {{4, {1, 2147483647, 1, 1}}, {3, {1, 1, 2147483647}}, {1, {1}}}, true},
        {"2^31 elements", {{4, {256, 512, 64, 256}}, {3, {256, 64, 512}}, {1, {256}}}, false},
        {"a product beyond 64 bits", {{4, {kBIG, kBIG, kBIG, 8}}, {3, {kBIG, kBIG, kBIG}}, {1, {kBIG}}}, false},
        {"features of version 1", {{4, {2, 16, 30, 128}}, {3, {2, 16, 30}}, {1, {2}}}, false},
        {"no frames", {{4, {2, 0, 16, 128}}, {3, {2, 16, 0}}, {1, {2}}}, false},
        {"other parts", {{4, {2, 30, 16, 128}}, {3, {2, 15, 30}}, {1, {2}}}, false},
        {"other sequences", {{4, {2, 30, 16, 128}}, {3, {2, 16, 30}}, {1, {3}}}, false},
    };
    for (auto const& one : cases)
    {
        for (int32_t const code : {build.configurePlugin(one.inputs.descs, 3, nullptr, 2),
                 runtime.onShapeChange(one.inputs.plain, 3, nullptr, 2)})
        {
            one.accepted ? check(code == 0, one.name) : checkRefused(code, one.name);
        }
    }
    Inputs const open{{4, {-1, -1, 16, 128}}, {3, {-1, 16, -1}}, {1, {-1}}};
    check(build.configurePlugin(open.descs, 3, nullptr, 2) == 0, "sizes still open are accepted at the build");
    checkRefused(runtime.onShapeChange(open.plain, 3, nullptr, 2), "and refused at the run");
}

template <typename Capability>
Capability* capability(IPluginV3& plugin, PluginCapabilityType type)
{
    return static_cast<Capability*>(plugin.getCapabilityInterface(type));
}

void checkPlugin(IPluginV3& plugin)
{
    auto* const core = capability<IPluginV3OneCore>(plugin, PluginCapabilityType::kCORE);
    auto* const build = capability<IPluginV3OneBuild>(plugin, PluginCapabilityType::kBUILD);
    auto* const runtime = capability<IPluginV3OneRuntime>(plugin, PluginCapabilityType::kRUNTIME);
    check(std::strcmp(core->getPluginName(), "CstlPartGather") == 0, "the plugin has its name");
    check(std::strcmp(core->getPluginNamespace(), "cstl_edge") == 0, "the plugin has its namespace");
    check(build->getNbOutputs() == 2, "there are two outputs");
    check(runtime->getFieldsToSerialize()->nbFields == 0, "nothing is serialised");
    checkTypes(*build);
    checkOutputShapes(*build);
    checkShapes(*build, *runtime);
    std::unique_ptr<IPluginV3> const copy{plugin.clone()}, attached{runtime->attachToContext(nullptr)};
    check(copy && attached && copy.get() != &plugin, "clones are plugins of their own");
    Inputs const empty{{4, {0, 30, 16, 128}}, {3, {0, 16, 30}}, {1, {0}}};
    void const* const inputs[3]{};
    void* const outputs[2]{};
    auto* const clone = capability<IPluginV3OneRuntime>(*copy, PluginCapabilityType::kRUNTIME);
    check(clone->enqueue(empty.plain, nullptr, inputs, outputs, nullptr, nullptr) == 0, "nothing to launch");
    Inputs const frameless{{4, {2, 0, 16, 128}}, {3, {2, 16, 0}}, {1, {2}}};
    checkRefused(clone->enqueue(frameless.plain, nullptr, inputs, outputs, nullptr, nullptr), "no frames, no launch");
}

} // namespace

int main()
{
    Log log;
    setLoggerFinder(&log);
    int32_t count = 0;
    auto* const* const creators = getCreators(count);
    check(count == 1, "there is one creator");
    auto* const creator = static_cast<IPluginCreatorV3One*>(creators[0]);
    check(std::strcmp(creator->getPluginName(), "CstlPartGather") == 0, "the creator has its name");
    check(std::strcmp(creator->getPluginVersion(), "2") == 0, "the creator has its version");
    check(std::strcmp(creator->getPluginNamespace(), "cstl_edge") == 0, "the creator has its namespace");
    for (TensorRTPhase const phase : {TensorRTPhase::kBUILD, TensorRTPhase::kRUNTIME})
    {
        std::unique_ptr<IPluginV3> const plugin{creator->createPlugin("gather", nullptr, phase)};
        check(plugin != nullptr, "a plugin is created");
        checkPlugin(*plugin);
    }
    check(log.lines == gRefusals, "every refusal is told once");
    setLoggerFinder(nullptr);
    std::printf("plugin for TensorRT %d: %s\n", NV_TENSORRT_MAJOR, gFailed ? "FAILED" : "as expected");
    return gFailed ? 1 : 0;
}
