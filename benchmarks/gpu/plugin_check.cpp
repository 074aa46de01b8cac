// SPDX-License-Identifier: Apache-2.0
//
// CstlPartGather on a GPU, driven as TensorRT drives it and without TensorRT: creator, attachToContext,
// onShapeChange, enqueue; eagerly and in a CUDA graph, in FP32 and FP16, against the rule on the CPU.
#include "part_gather.cuh"

#include <NvInferRuntime.h>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <memory>
#include <random>
#include <vector>

extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& nbCreators);

using namespace nvinfer1;

namespace
{

void expect(cudaError_t error, char const* what)
{
    if (error != cudaSuccess)
    {
        std::printf("FAIL %s: %s\n", what, cudaGetErrorString(error));
        std::exit(1);
    }
}

template <typename T>
T* onDevice(std::vector<T> const& values)
{
    T* memory{};
    size_t const bytes = values.size() * sizeof(T);
    expect(cudaMalloc(&memory, std::max<size_t>(1, bytes)), "malloc");
    expect(cudaMemcpy(memory, values.data(), bytes, cudaMemcpyHostToDevice), "copy to the GPU");
    return memory;
}

std::unique_ptr<IPluginV3> attached()
{
    int32_t count{};
    auto* const creator = static_cast<IPluginCreatorV3One*>(getCreators(count)[0]);
    std::unique_ptr<IPluginV3> const made{creator->createPlugin("g", nullptr, TensorRTPhase::kRUNTIME)};
    auto* const runtime
        = static_cast<IPluginV3OneRuntime*>(made->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
    return std::unique_ptr<IPluginV3>{runtime->attachToContext(nullptr)};
}

//! `shift` numbers before the features and the output take them off their alignment.
template <typename Number>
bool agrees(DataType type, cstl::PartGatherDims const& dims, int64_t shift)
{
    auto const [n, p, s, c] = dims;
    std::mt19937 random{1};
    std::vector<Number> features(n * s * p * c + shift), scores(n * p * s), salient(n * p * c + shift), want(n * p * c);
    std::vector<int32_t> lengths(n), frames(n * p), wantFrames(n * p);
    for (auto& x : features) { x = Number(static_cast<float>(static_cast<int>(random() % 2001) - 1000)); }
    for (auto& x : scores) { x = Number(static_cast<float>(static_cast<int>(random() % 9) - 4)); }
    for (auto& x : lengths) { x = 1 + static_cast<int32_t>(random() % s); }
    cstlPartGatherHost(features.data() + shift, scores.data(), lengths.data(), want.data(), wantFrames.data(), &dims,
        static_cast<int32_t>(type));
    auto* const dFeatures = onDevice(features);
    auto* const dScores = onDevice(scores);
    auto* const dSalient = onDevice(salient);
    auto* const dLengths = onDevice(lengths);
    auto* const dFrames = onDevice(frames);
    auto const plugin = attached();
    auto* const runtime
        = static_cast<IPluginV3OneRuntime*>(plugin->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
    auto const linear = [](Dims const& sizes, DataType kind) {
        return PluginTensorDesc{sizes, kind, TensorFormat::kLINEAR, 1.0F};
    };
    PluginTensorDesc const in[3]{
        linear({4, {n, s, p, c}}, type), linear({3, {n, p, s}}, type), linear({1, {n}}, DataType::kINT32)};
    PluginTensorDesc const out[2]{linear({3, {n, p, c}}, type), linear({2, {n, p}}, DataType::kINT32)};
    void const* const inputs[]{dFeatures + shift, dScores, dLengths};
    void* const outputs[]{dSalient + shift, dFrames};
    cudaStream_t stream{};
    expect(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    auto const same = [&] {
        expect(cudaMemcpy(salient.data(), dSalient, salient.size() * sizeof(Number), cudaMemcpyDeviceToHost), "copy");
        expect(cudaMemcpy(frames.data(), dFrames, frames.size() * sizeof(int32_t), cudaMemcpyDeviceToHost), "copy");
        return frames == wantFrames && !std::memcmp(salient.data() + shift, want.data(), want.size() * sizeof(Number));
    };
    int32_t refused = runtime->onShapeChange(in, 3, out, 2);
    refused |= runtime->enqueue(in, out, inputs, outputs, nullptr, stream);
    expect(cudaStreamSynchronize(stream), "enqueue");
    bool const eager = same();
    expect(cudaMemset(dSalient, 0xa5, salient.size() * sizeof(Number)), "clear");
    expect(cudaMemset(dFrames, 0xa5, frames.size() * sizeof(int32_t)), "clear");
    cudaGraph_t graph{};
    cudaGraphExec_t replay{};
    expect(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
    refused |= runtime->enqueue(in, out, inputs, outputs, nullptr, stream);
    expect(cudaStreamEndCapture(stream, &graph), "capture");
    expect(cudaGraphInstantiate(&replay, graph, 0), "graph");
    size_t nodes = 0;
    expect(cudaGraphGetNodes(graph, nullptr, &nodes), "graph");
    expect(cudaGraphLaunch(replay, stream), "graph");
    expect(cudaStreamSynchronize(stream), "graph");
    bool const captured = same();
    bool const right = refused == 0 && eager && captured && nodes == 1;
    std::printf("%s %s n %ld p %ld s %ld c %ld shift %ld: eager %d, graph %d of %zu nodes\n", right ? "ok  " : "FAIL",
        type == DataType::kHALF ? "FP16" : "FP32", n, p, s, c, shift, eager, captured, nodes);
    for (void* memory : {static_cast<void*>(dFeatures), static_cast<void*>(dScores), static_cast<void*>(dSalient),
             static_cast<void*>(dLengths), static_cast<void*>(dFrames)})
    {
        cudaFree(memory);
    }
    cudaGraphExecDestroy(replay);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
    return right;
}

} // namespace

int main()
{
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0)
    {
        std::printf("no GPU\n");
        return 4;
    }
    constexpr cstl::PartGatherDims kSIZES[]{{1, 32, 30, 128}, {32, 32, 30, 128}, {4, 32, 240, 128}, {3, 16, 1, 64},
        {2, 3, 33, 5}, {1, 64, 30, 256}, {16, 64, 720, 256}};
    bool right = true;
    for (auto const& dims : kSIZES)
    {
        for (int64_t const shift : {0, 1})
        {
            right = agrees<float>(DataType::kFLOAT, dims, shift) && right;
            right = agrees<__half>(DataType::kHALF, dims, shift) && right;
        }
    }
    return right ? 0 : 1;
}
