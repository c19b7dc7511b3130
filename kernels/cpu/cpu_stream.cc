#include <cstdlib>

#include "base/check.h"
#include "kernels/cpu/cpu_ops.h"

namespace yoio::kernels::cpu {
namespace {

constexpr size_t kFloatsPerLine = 16;  // floats in 64 bytes

}  // namespace

void CpuStream::Free::operator()(float* data) const { std::free(data); }

float* CpuStream::Scratch(int thread, size_t count) {
  Arena& arena = scratch_[thread];
  if (arena.count < count) {
    const size_t rounded = (count + kFloatsPerLine - 1) / kFloatsPerLine * kFloatsPerLine;
    arena.data.reset();  // before the larger one: the two need not fit side by side
    arena.data.reset(
        static_cast<float*>(std::aligned_alloc(kFloatsPerLine * sizeof(float), rounded * sizeof(float))));
    YOIO_CHECK(arena.data != nullptr) << "no room for " << rounded << " floats of scratch";
    arena.count = rounded;
  }
  return arena.data.get();
}

}  // namespace yoio::kernels::cpu
