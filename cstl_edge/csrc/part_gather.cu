// SPDX-License-Identifier: Apache-2.0
//
// One warp finds the best frame of a row (one part of one sequence) and copies that frame's channels.
#include "part_gather.cuh"

#include <algorithm>
#include <cuda_fp16.h>
#include <limits>

namespace cstl
{
namespace
{

constexpr int32_t kLANES{32};
constexpr int32_t kROWS_PER_BLOCK{4}; // small blocks: the 16 rows of one live walker still use 4 SMs
constexpr int32_t kTHREADS{kLANES * kROWS_PER_BLOCK};
constexpr int64_t kMAX_BLOCKS{std::numeric_limits<int32_t>::max()};

__host__ __device__ inline float toFloat(float score)
{
    return score;
}

__host__ __device__ inline float toFloat(__half score)
{
    return __half2float(score); // exact, so FP16 has the order and the ties of its own numbers
}

//! Return the best of the frames lane, lane + 32, … of one row.
//! Padding is read too: its loads need not wait for `length`.
template <typename Score>
__host__ __device__ inline Best bestOfLane(Score const* scores, // [s]
    int32_t lane, int64_t s, int32_t length)
{
    Best best = noneYet();
#pragma unroll 4
    for (int64_t t = lane; t < s; t += kLANES)
    {
        best = better(best, toFloat(scores[t]), static_cast<int32_t>(t), length);
    }
    return best;
}

//! `Word` is what one lane copies at once: 16 bytes, or one number where that does not fit.
template <typename Score, typename Word>
__global__ void __launch_bounds__(kTHREADS) partGatherKernel(
    Word const* __restrict__ features,   // [n, s, p, words]
    Score const* __restrict__ scores,    // [n, p, s]
    int32_t const* __restrict__ lengths, // [n]
    Word* __restrict__ salient,          // [n, p, words]
    int32_t* __restrict__ frames,        // [n, p]
    PartGatherDims dims, int64_t words)
{
    int32_t const lane = threadIdx.x % kLANES;
    int64_t const step = int64_t{gridDim.x} * kROWS_PER_BLOCK;
    int64_t row = int64_t{blockIdx.x} * kROWS_PER_BLOCK + threadIdx.x / kLANES;
    for (; row < dims.n * dims.p; row += step)
    {
        int64_t const sequence = row / dims.p;
        int32_t const length = lengths[sequence];
        Best best = bestOfLane(scores + row * dims.s, lane, dims.s, length);
        for (int32_t offset = kLANES / 2; offset > 0; offset /= 2)
        {
            float const score = __shfl_xor_sync(0xffffffffu, best.score, offset);
            int32_t const frame = __shfl_xor_sync(0xffffffffu, best.frame, offset);
            best = better(best, score, frame, length);
        }
        int64_t const frame = sequence * dims.s + best.frame;
        Word const* const chosen = features + (frame * dims.p + row % dims.p) * words;
        for (int64_t k = lane; k < words; k += kLANES)
        {
            salient[row * words + k] = chosen[k];
        }
        if (lane == 0)
        {
            frames[row] = best.frame;
        }
    }
}

template <typename Score, typename Word>
cudaError_t launchCopying(void const* features, void const* scores, int32_t const* lengths, void* salient,
    int32_t* frames, PartGatherDims const& dims, cudaStream_t stream)
{
    int64_t const words = dims.c * sizeof(Score) / sizeof(Word);
    int64_t const blocks = (dims.n * dims.p + kROWS_PER_BLOCK - 1) / kROWS_PER_BLOCK;
    auto const grid = static_cast<uint32_t>(std::min(blocks, kMAX_BLOCKS));
    partGatherKernel<Score, Word><<<grid, kTHREADS, 0, stream>>>(static_cast<Word const*>(features),
        static_cast<Score const*>(scores), lengths, static_cast<Word*>(salient), frames, dims, words);
    return cudaGetLastError();
}

//! `Number` is an integer as wide as `Score`: features are copied, never computed with.
template <typename Score, typename Number>
cudaError_t launch(void const* features, void const* scores, int32_t const* lengths, void* salient, int32_t* frames,
    PartGatherDims const& dims, cudaStream_t stream)
{
    auto const addresses = reinterpret_cast<uintptr_t>(features) | reinterpret_cast<uintptr_t>(salient);
    bool const wide = (addresses | dims.c * sizeof(Score)) % sizeof(uint4) == 0;
    return wide ? launchCopying<Score, uint4>(features, scores, lengths, salient, frames, dims, stream)
                : launchCopying<Score, Number>(features, scores, lengths, salient, frames, dims, stream);
}

//! The kernel's loop over one row with 32 lanes in turn; each lane copies by its own best frame.
template <typename Score, typename Number>
int32_t rowOnHost(Number const* features, // [s, c], frames p * c numbers apart
    Score const* scores,                  // [s]
    int32_t length,
    Number* salient, // [c]
    PartGatherDims const& dims)
{
    Best lanes[kLANES];
    for (int32_t lane = 0; lane < kLANES; ++lane)
    {
        lanes[lane] = bestOfLane(scores, lane, dims.s, length);
    }
    for (int32_t offset = kLANES / 2; offset > 0; offset /= 2)
    {
        Best others[kLANES];
        std::copy(lanes, lanes + kLANES, others);
        for (int32_t lane = 0; lane < kLANES; ++lane)
        {
            Best const other = others[lane ^ offset];
            lanes[lane] = better(lanes[lane], other.score, other.frame, length);
        }
    }
    for (int64_t k = 0; k < dims.c; ++k)
    {
        salient[k] = features[lanes[k % kLANES].frame * dims.p * dims.c + k];
    }
    return lanes[0].frame;
}

template <typename Score, typename Number>
void onHost(void const* features, void const* scores, int32_t const* lengths, void* salient, int32_t* frames,
    PartGatherDims const& dims)
{
    for (int64_t row = 0; row < dims.n * dims.p; ++row)
    {
        int64_t const sequence = row / dims.p;
        int64_t const first = (sequence * dims.s * dims.p + row % dims.p) * dims.c;
        frames[row] = rowOnHost(static_cast<Number const*>(features) + first,
            static_cast<Score const*>(scores) + row * dims.s, lengths[sequence],
            static_cast<Number*>(salient) + row * dims.c, dims);
    }
}

bool valid(PartGatherDims const& dims)
{
    bool const searchable = dims.s >= 1 && dims.s <= std::numeric_limits<int32_t>::max();
    return dims.n >= 0 && dims.p >= 0 && dims.c >= 0 && searchable;
}

} // namespace
} // namespace cstl

using cstl::PartGatherType;

int32_t cstlPartGather(void const* features, void const* scores, int32_t const* lengths, void* salient, int32_t* frames,
    cstl::PartGatherDims const* dims, int32_t type, cudaStream_t stream) noexcept
{
    if (!cstl::valid(*dims))
    {
        return cudaErrorInvalidValue;
    }
    if (dims->n == 0 || dims->p == 0)
    {
        return cudaSuccess;
    }
    switch (static_cast<PartGatherType>(type))
    {
    case PartGatherType::kFLOAT:
        return cstl::launch<float, uint32_t>(features, scores, lengths, salient, frames, *dims, stream);
    case PartGatherType::kHALF:
        return cstl::launch<__half, uint16_t>(features, scores, lengths, salient, frames, *dims, stream);
    }
    return cudaErrorInvalidValue;
}

int32_t cstlPartGatherHost(void const* features, void const* scores, int32_t const* lengths, void* salient,
    int32_t* frames, cstl::PartGatherDims const* dims, int32_t type) noexcept
{
    if (!cstl::valid(*dims))
    {
        return cudaErrorInvalidValue;
    }
    switch (static_cast<PartGatherType>(type))
    {
    case PartGatherType::kFLOAT:
        cstl::onHost<float, uint32_t>(features, scores, lengths, salient, frames, *dims);
        return cudaSuccess;
    case PartGatherType::kHALF:
        cstl::onHost<__half, uint16_t>(features, scores, lengths, salient, frames, *dims);
        return cudaSuccess;
    }
    return cudaErrorInvalidValue;
}

char const* cstlPartGatherError(int32_t code) noexcept
{
    return cudaGetErrorString(static_cast<cudaError_t>(code));
}
