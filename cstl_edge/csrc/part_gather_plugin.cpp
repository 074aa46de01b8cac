// SPDX-License-Identifier: Apache-2.0
//
// CstlPartGather for TensorRT 10.3 to 11.x: an IPluginV3 without attributes and without state around the
// kernel of part_gather.cu. Needs TensorRT's headers and none of its libraries.
// Inputs: features [n, s, p, c], scores [n, p, s], lengths [n]; outputs: salient [n, p, c], frames [n, p].
// (Version 1 took features [n, p, s, c], which forced a transposed copy of the head's own input.)
#include "part_gather.cuh"

#include <NvInferRuntime.h>
#include <atomic>
#include <cstdio>
#include <exception>
#include <limits>
#include <stdexcept>

namespace
{

using namespace nvinfer1;

constexpr char const* kNAME{"CstlPartGather"};
constexpr char const* kVERSION{"2"};
constexpr char const* kNAMESPACE{"cstl_edge"};
constexpr int32_t kINPUTS{3};
constexpr int32_t kOUTPUTS{2};
constexpr int64_t kMAX_ELEMENTS{std::numeric_limits<int32_t>::max()}; // "must be less than 2^31": NvInfer.h, 10.3
constexpr PluginFieldCollection kNO_FIELDS{};

static_assert(static_cast<int32_t>(DataType::kFLOAT) == static_cast<int32_t>(cstl::PartGatherType::kFLOAT)
    && static_cast<int32_t>(DataType::kHALF) == static_cast<int32_t>(cstl::PartGatherType::kHALF));

std::atomic<ILoggerFinder*> gLoggerFinder{nullptr};

//! Tell TensorRT's logger what went wrong, or stderr where there is none.
void report(char const* where, char const* what) noexcept
{
    char text[512];
    std::snprintf(text, sizeof(text), "%s: %s: %s", kNAME, where, what);
    try
    {
        ILoggerFinder* const finder = gLoggerFinder;
        ILogger* const logger = finder != nullptr ? finder->findLogger() : nullptr;
        if (logger != nullptr)
        {
            logger->log(ILogger::Severity::kERROR, text);
            return;
        }
    }
    catch (...) // a logger that throws: stderr is left
    {
    }
    std::fprintf(stderr, "%s\n", text);
}

//! Do what TensorRT asks for; nothing that is thrown crosses the boundary. Returns 0, or 1 after a report.
template <typename Call>
int32_t guarded(char const* where, Call&& call) noexcept
{
    try
    {
        call();
        return 0;
    }
    catch (std::exception const& err)
    {
        report(where, err.what());
    }
    catch (...)
    {
        report(where, "unknown exception");
    }
    return 1;
}

void expect(bool holds, char const* wish)
{
    if (!holds)
    {
        throw std::invalid_argument(wish);
    }
}

void expectCounts(int32_t inputs, int32_t outputs)
{
    expect(inputs == kINPUTS, "expected 3 inputs: features, scores, lengths");
    expect(outputs == kOUTPUTS, "expected 2 outputs: salient, frames");
}

void expectRanks(int32_t features, int32_t scores, int32_t lengths)
{
    expect(features == 4, "expected features [n, s, p, c]");
    expect(scores == 3, "expected scores [n, p, s]");
    expect(lengths == 1, "expected lengths [n]");
}

void expectTypes(DataType features, DataType scores, DataType lengths)
{
    expect(features == DataType::kFLOAT || features == DataType::kHALF, "expected features in FP32 or FP16");
    expect(scores == features, "expected scores of the same type as features");
    expect(lengths == DataType::kINT32, "expected lengths in INT32");
}

void expectHoldable(Dims const& dims)
{
    int64_t elements = 1;
    for (int32_t i = 0; i < dims.nbDims; ++i)
    {
        bool const fits = dims.d[i] >= 0 && (dims.d[i] == 0 || elements <= kMAX_ELEMENTS / dims.d[i]);
        expect(fits, "expected tensors of less than 2^31 elements, TensorRT holds no more");
        elements *= dims.d[i];
    }
}

void expectShapes(Dims const& features, Dims const& scores, Dims const& lengths)
{
    expectRanks(features.nbDims, scores.nbDims, lengths.nbDims);
    bool const fits = scores.d[0] == features.d[0] && scores.d[1] == features.d[2] && scores.d[2] == features.d[1];
    expect(fits, "expected scores [n, p, s] to fit features [n, s, p, c]");
    expect(lengths.d[0] == features.d[0], "expected lengths [n] to fit features [n, s, p, c]");
    expect(features.d[1] >= 1, "expected at least one frame");
    expectHoldable(features);
    expectHoldable(scores);
}

bool known(Dims const& dims)
{
    for (int32_t i = 0; i < dims.nbDims; ++i)
    {
        if (dims.d[i] < 0)
        {
            return false;
        }
    }
    return true;
}

class PartGatherPlugin final : public IPluginV3,
                               public IPluginV3OneCore,
                               public IPluginV3OneBuild,
                               public IPluginV3OneRuntime
{
public:
    static IPluginV3* make() noexcept
    {
        IPluginV3* plugin = nullptr;
        guarded("create", [&] { plugin = new PartGatherPlugin; });
        return plugin;
    }

    IPluginCapability* getCapabilityInterface(PluginCapabilityType type) noexcept override
    {
        switch (type)
        {
        case PluginCapabilityType::kCORE: return static_cast<IPluginV3OneCore*>(this);
        case PluginCapabilityType::kBUILD: return static_cast<IPluginV3OneBuild*>(this);
        case PluginCapabilityType::kRUNTIME: return static_cast<IPluginV3OneRuntime*>(this);
        }
        return nullptr;
    }

    IPluginV3* clone() noexcept override
    {
        return make();
    }

    char const* getPluginName() const noexcept override
    {
        return kNAME;
    }

    char const* getPluginVersion() const noexcept override
    {
        return kVERSION;
    }

    char const* getPluginNamespace() const noexcept override
    {
        return kNAMESPACE;
    }

    int32_t getNbOutputs() const noexcept override
    {
        return kOUTPUTS;
    }

    int32_t getOutputDataTypes(
        DataType* outputs, int32_t nbOutputs, DataType const* inputs, int32_t nbInputs) const noexcept override
    {
        return guarded("types", [&] {
            expectCounts(nbInputs, nbOutputs);
            expectTypes(inputs[0], inputs[1], inputs[2]);
            outputs[0] = inputs[0];
            outputs[1] = DataType::kINT32;
        });
    }

    int32_t getOutputShapes(DimsExprs const* inputs, int32_t nbInputs, DimsExprs const* /*shapeInputs*/,
        int32_t /*nbShapeInputs*/, DimsExprs* outputs, int32_t nbOutputs, IExprBuilder& /*builder*/) noexcept override
    {
        return guarded("shapes", [&] {
            expectCounts(nbInputs, nbOutputs);
            DimsExprs const& features = inputs[0];
            expectRanks(features.nbDims, inputs[1].nbDims, inputs[2].nbDims);
            outputs[0].nbDims = 3;
            outputs[1].nbDims = 2;
            outputs[0].d[0] = outputs[1].d[0] = features.d[0];
            outputs[0].d[1] = outputs[1].d[1] = features.d[2];
            outputs[0].d[2] = features.d[3];
        });
    }

    bool supportsFormatCombination(
        int32_t pos, DynamicPluginTensorDesc const* inOut, int32_t nbInputs, int32_t nbOutputs) noexcept override
    {
        if (nbInputs != kINPUTS || nbOutputs != kOUTPUTS || inOut[pos].desc.format != TensorFormat::kLINEAR)
        {
            return false;
        }
        DataType const features = inOut[0].desc.type;
        switch (pos)
        {
        case 0: return features == DataType::kFLOAT || features == DataType::kHALF;
        case 1:
        case 3: return inOut[pos].desc.type == features;
        default: return inOut[pos].desc.type == DataType::kINT32;
        }
    }

    int32_t configurePlugin(DynamicPluginTensorDesc const* in, int32_t nbInputs,
        DynamicPluginTensorDesc const* /*out*/, int32_t nbOutputs) noexcept override
    {
        return guarded("configure", [&] {
            expectCounts(nbInputs, nbOutputs);
            expectTypes(in[0].desc.type, in[1].desc.type, in[2].desc.type);
            if (known(in[0].max) && known(in[1].max) && known(in[2].max))
            {
                expectShapes(in[0].max, in[1].max, in[2].max);
            }
        });
    }

    char const* getTimingCacheID() noexcept override
    {
        return kVERSION; // no attributes: types and shapes, which TensorRT adds, are all that matters
    }

    char const* getMetadataString() noexcept override
    {
        return "NaN and frames past lengths count as -inf, ties go to the earliest frame";
    }

    int32_t onShapeChange(PluginTensorDesc const* in, int32_t nbInputs, PluginTensorDesc const* /*out*/,
        int32_t nbOutputs) noexcept override
    {
        return guarded("shape change", [&] {
            expectCounts(nbInputs, nbOutputs);
            expectTypes(in[0].type, in[1].type, in[2].type);
            expectShapes(in[0].dims, in[1].dims, in[2].dims);
        });
    }

    int32_t enqueue(PluginTensorDesc const* in, PluginTensorDesc const* /*out*/, void const* const* inputs,
        void* const* outputs, void* /*workspace*/, cudaStream_t stream) noexcept override
    {
        return guarded("enqueue", [&] {
            Dims const& features = in[0].dims;
            cstl::PartGatherDims const dims{features.d[0], features.d[2], features.d[1], features.d[3]};
            int32_t const code = cstlPartGather(inputs[0], inputs[1], static_cast<int32_t const*>(inputs[2]),
                outputs[0], static_cast<int32_t*>(outputs[1]), &dims, static_cast<int32_t>(in[0].type), stream);
            expect(code == cudaSuccess, cstlPartGatherError(code));
        });
    }

    IPluginV3* attachToContext(IPluginResourceContext* /*context*/) noexcept override
    {
        return make();
    }

    PluginFieldCollection const* getFieldsToSerialize() noexcept override
    {
        return &kNO_FIELDS;
    }
};

class PartGatherCreator final : public IPluginCreatorV3One
{
public:
    //! Fields are ignored in both phases: the plugin has none, so nothing of a foreign plan is read.
    IPluginV3* createPlugin(
        char const* /*name*/, PluginFieldCollection const* /*fields*/, TensorRTPhase /*phase*/) noexcept override
    {
        return PartGatherPlugin::make();
    }

    PluginFieldCollection const* getFieldNames() noexcept override
    {
        return &kNO_FIELDS;
    }

    char const* getPluginName() const noexcept override
    {
        return kNAME;
    }

    char const* getPluginVersion() const noexcept override
    {
        return kVERSION;
    }

    char const* getPluginNamespace() const noexcept override
    {
        return kNAMESPACE;
    }
};

} // namespace

//! Where TensorRT's `IPluginRegistry::loadLibrary` finds what is in this library.
extern "C" IPluginCreatorInterface* const* getCreators(int32_t& nbCreators)
{
    static PartGatherCreator creator;
    static IPluginCreatorInterface* const creators[]{&creator};
    nbCreators = 1;
    return creators;
}

//! Without it `loadLibrary` refuses the library.
extern "C" void setLoggerFinder(ILoggerFinder* finder)
{
    gLoggerFinder = finder;
}
