// SPDX-License-Identifier: Apache-2.0
//
// The rule on the CPU, and the kernel where there is a GPU, against a plain loop: bit for bit. Prints what
// was compared; returns 1 at the first difference. Needs CUDA alone, so it also runs on a bare board.
#include "part_gather.cuh"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <cuda_fp16.h>
#include <initializer_list>
#include <limits>
#include <random>
#include <vector>

namespace
{

struct Case
{
    char const* name;
    cstl::PartGatherDims dims;
    float missing; //!< share of scores that are NaN
};

constexpr Case kCASES[]{
    {"one frame", {3, 2, 1, 8}, 0.0F},
    {"one walker", {1, 16, 30, 128}, 0.0F},
    {"narrow, not aligned", {2, 3, 33, 5}, 0.2F},
    {"no channels", {2, 3, 4, 0}, 0.0F},
    {"long", {2, 4, 720, 64}, 0.1F},
    {"nothing but NaN", {2, 3, 40, 16}, 1.0F},
    {"many rows", {256, 16, 7, 8}, 0.3F},
    {"no sequences", {0, 16, 30, 128}, 0.0F},
};

struct Tensors
{
    std::vector<unsigned char> features, scores, salient;
    std::vector<int32_t> lengths, frames;
};

template <typename Number>
float at(std::vector<unsigned char> const& bytes, int64_t i)
{
    Number number;
    std::memcpy(&number, bytes.data() + i * sizeof(Number), sizeof(Number));
    return number;
}

//! Scores take nine values, so that ties are everywhere; features are random bits, copied and never read.
template <typename Number>
Tensors make(Case const& wanted)
{
    auto const& [n, p, s, c] = wanted.dims;
    std::mt19937 random{7};
    std::uniform_real_distribution<float> share{0.0F, 1.0F};
    std::uniform_int_distribution<int32_t> value{-4, 4}, length{1, static_cast<int32_t>(s)};
    Tensors made;
    made.features.resize(n * p * s * c * sizeof(Number));
    made.scores.resize(n * p * s * sizeof(Number));
    made.salient.resize(n * p * c * sizeof(Number));
    made.frames.resize(n * p);
    made.lengths.resize(n);
    std::generate(made.features.begin(), made.features.end(), [&] { return static_cast<unsigned char>(random()); });
    std::generate(made.lengths.begin(), made.lengths.end(), [&] { return length(random); });
    for (int64_t i = 0; i < n * p * s; ++i)
    {
        float score = static_cast<float>(value(random));
        score = score == 4.0F ? -0.0F : score == -4.0F ? -std::numeric_limits<float>::infinity() : score;
        Number const number = share(random) < wanted.missing ? std::numeric_limits<float>::quiet_NaN() : score;
        std::memcpy(made.scores.data() + i * sizeof(Number), &number, sizeof(Number));
    }
    return made;
}

//! Eq. 9 and 10 as anyone would write them.
template <typename Number>
void plainLoop(Case const& wanted, Tensors& tensors)
{
    auto const& [n, p, s, c] = wanted.dims;
    for (int64_t row = 0; row < n * p; ++row)
    {
        int32_t best = 0;
        float bestScore = -std::numeric_limits<float>::infinity();
        for (int32_t t = 0; t < std::min<int64_t>(s, tensors.lengths[row / p]); ++t)
        {
            float const score = at<Number>(tensors.scores, row * s + t);
            if (score > bestScore) // false for NaN
            {
                best = t;
                bestScore = score;
            }
        }
        tensors.frames[row] = best;
        int64_t const frame = row / p * s + best;
        auto const from = tensors.features.begin() + (frame * p + row % p) * c * sizeof(Number);
        std::copy(from, from + c * sizeof(Number), tensors.salient.begin() + row * c * sizeof(Number));
    }
}

template <typename T>
T* onDevice(std::vector<T> const& values)
{
    void* memory = nullptr;
    size_t const bytes = values.size() * sizeof(T);
    if (cudaMalloc(&memory, std::max<size_t>(bytes, 1)) != cudaSuccess)
    {
        return nullptr;
    }
    cudaMemcpy(memory, values.data(), bytes, cudaMemcpyHostToDevice);
    return static_cast<T*>(memory);
}

//! Run the kernel, once as it is and once recorded into a CUDA graph; returns the last error.
cudaError_t onGpu(Case const& wanted, Tensors& tensors, int32_t type)
{
    auto* const features = onDevice(tensors.features);
    auto* const scores = onDevice(tensors.scores);
    auto* const lengths = onDevice(tensors.lengths);
    auto* const salient = onDevice(tensors.salient);
    auto* const frames = onDevice(tensors.frames);
    cudaStream_t stream{};
    cudaGraph_t graph{};
    cudaGraphExec_t replay{};
    cudaStreamCreate(&stream);
    auto const launch
        = [&] { return cstlPartGather(features, scores, lengths, salient, frames, &wanted.dims, type, stream); };
    auto result = static_cast<cudaError_t>(launch());
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
    result = result == cudaSuccess ? static_cast<cudaError_t>(launch()) : result;
    cudaStreamEndCapture(stream, &graph);
    cudaGraphInstantiateWithFlags(&replay, graph, 0);
    cudaMemsetAsync(salient, 0xa5, tensors.salient.size(), stream);
    cudaMemsetAsync(frames, 0xa5, tensors.frames.size() * sizeof(int32_t), stream);
    cudaGraphLaunch(replay, stream);
    cudaStreamSynchronize(stream);
    cudaMemcpy(tensors.salient.data(), salient, tensors.salient.size(), cudaMemcpyDeviceToHost);
    cudaMemcpy(tensors.frames.data(), frames, tensors.frames.size() * sizeof(int32_t), cudaMemcpyDeviceToHost);
    cudaGraphExecDestroy(replay);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
    for (void* memory : {static_cast<void*>(features), static_cast<void*>(scores), static_cast<void*>(lengths),
             static_cast<void*>(salient), static_cast<void*>(frames)})
    {
        cudaFree(memory);
    }
    return result == cudaSuccess ? cudaGetLastError() : result;
}

bool agrees(Case const& wanted, char const* where, int32_t code, Tensors const& found, Tensors const& expected)
{
    if (code == cudaSuccess && found.salient == expected.salient && found.frames == expected.frames)
    {
        return true;
    }
    std::fprintf(stderr, "%s on the %s: %s\n", wanted.name, where,
        code == cudaSuccess ? "differs from the plain loop" : cstlPartGatherError(code));
    return false;
}

template <typename Number>
bool check(Case const& wanted, cstl::PartGatherType kind, bool gpu)
{
    auto const type = static_cast<int32_t>(kind);
    Tensors expected = make<Number>(wanted);
    Tensors cpu = expected;
    Tensors device = expected;
    plainLoop<Number>(wanted, expected);
    int32_t const code = cstlPartGatherHost(cpu.features.data(), cpu.scores.data(), cpu.lengths.data(),
        cpu.salient.data(), cpu.frames.data(), &wanted.dims, type);
    return agrees(wanted, "CPU", code, cpu, expected)
        && (!gpu || agrees(wanted, "GPU", onGpu(wanted, device, type), device, expected));
}

} // namespace

int main()
{
    int devices = 0;
    bool const gpu = cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
    for (Case const& wanted : kCASES)
    {
        if (!check<float>(wanted, cstl::PartGatherType::kFLOAT, gpu)
            || !check<__half>(wanted, cstl::PartGatherType::kHALF, gpu))
        {
            return 1;
        }
    }
    cudaDeviceProp properties{};
    if (gpu)
    {
        cudaGetDeviceProperties(&properties, 0);
    }
    std::printf("rule: %zu cases in FP32 and FP16 agree with a plain loop; kernel: %s\n", std::size(kCASES),
        gpu ? properties.name : "not run, no GPU");
    return 0;
}
