// SPDX-License-Identifier: Apache-2.0
//
// The part gather (Eq. 9 and 10): the rule that decides, and the C entry points. Knows no TensorRT.
// Letters: n sequences, p parts, s frames, c channels.
#pragma once

#include <cmath>
#include <cstdint>
#include <cuda_runtime_api.h>

namespace cstl
{

//! The best frame of a row so far.
struct Best
{
    float score;
    int32_t frame;
};

//! Where every search begins: with nothing but -inf in its row, the first frame wins.
__host__ __device__ inline Best noneYet()
{
    return {-INFINITY, 0};
}

//! Everything that decides: NaN and frames past `length` count as -inf, ties go to the earliest frame.
//! The order in which frames come does not matter, so lanes may share a row and merge.
__host__ __device__ inline Best better(Best best, float score, int32_t frame, int32_t length)
{
    float const ranked = frame < length ? score : -INFINITY;
    bool const wins = ranked > best.score // NaN is neither more than anything nor equal to it
        || (ranked == best.score && frame < best.frame);
    return wins ? Best{ranked, frame} : best;
}

struct PartGatherDims
{
    int64_t n;
    int64_t p;
    int64_t s; //!< 1..2^31-1, for frames are int32
    int64_t c;
};

//! Type of features, scores and salient; the numbers are those of nvinfer1::DataType.
enum class PartGatherType : int32_t
{
    kFLOAT = 0,
    kHALF = 1,
};

} // namespace cstl

extern "C"
{
    //! salient[i, j, k] = features[i, frames[i, j], j, k], frames[i, j] the best frame of scores[i, j].
    //! All pointers are on the device; one launch on `stream`, no allocation, no synchronisation.
    //! Returns a cudaError_t; cudaErrorInvalidValue for dims or a type that cannot be.
    int32_t cstlPartGather(void const* features, // [n, s, p, c]
        void const* scores,                      // [n, p, s]
        int32_t const* lengths,                  // [n], 1..s
        void* salient,                           // [n, p, c]
        int32_t* frames,                         // [n, p]
        cstl::PartGatherDims const* dims, int32_t type, cudaStream_t stream) noexcept;

    //! The same on the CPU, lane by lane as the kernel does it: for tests of the rule without a GPU.
    int32_t cstlPartGatherHost(void const* features, void const* scores, int32_t const* lengths, void* salient,
        int32_t* frames, cstl::PartGatherDims const* dims, int32_t type) noexcept;

    //! What an error code of the two means.
    char const* cstlPartGatherError(int32_t code) noexcept;
}
