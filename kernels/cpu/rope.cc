#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rope.cc"
#include <cmath>

#include "hwy/foreach_target.h"  // compiles this file once for each instruction set
#include "hwy/highway.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace yoio::kernels::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Heads are short: eight lanes divide every head_dim / 2 in use, wider ones would leave half a head of 16 to
// the scalar tail.
using Floats = hn::CappedTag<float, 8>;

float SumOfSquares(const float* x, size_t n) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  auto sums = hn::Zero(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto value = hn::LoadU(d, x + i);
    sums = hn::MulAdd(value, value, sums);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, sums));
  for (; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

void NormHead(float* x, const float* HWY_RESTRICT weight, float eps, size_t n) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  const float scale = 1.0f / std::sqrt(SumOfSquares(x, n) / static_cast<float>(n) + eps);
  const auto factor = hn::Set(d, scale);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, x + i), factor), hn::LoadU(d, weight + i)), d, x + i);
  }
  for (; i < n; ++i) x[i] = x[i] * scale * weight[i];
}

// Rotates (x[j], x[half + j]) by the angle whose cosine and sine are cos[j] and sin[j].
void RotateHead(float* x, const float* HWY_RESTRICT cos, const float* HWY_RESTRICT sin, size_t half) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  size_t j = 0;
  for (; j + lanes <= half; j += lanes) {
    const auto a = hn::LoadU(d, x + j), b = hn::LoadU(d, x + half + j);
    const auto c = hn::LoadU(d, cos + j), s = hn::LoadU(d, sin + j);
    hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, x + j);
    hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), d, x + half + j);
  }
  for (; j < half; ++j) {
    const float a = x[j], b = x[half + j];
    x[j] = a * cos[j] - b * sin[j];
    x[half + j] = b * cos[j] + a * sin[j];
  }
}

void HeadNormRopeRows(const HeadNormRopeArgs& args, int64_t begin, int64_t end) {
  const int64_t half = args.head_dim / 2;
  for (int64_t i = begin; i < end; ++i) {
    float* x = AsFloats(args.x) + i * args.row_stride;
    for (int head = 0; head < args.q_heads + args.k_heads; ++head, x += args.head_dim) {
      const float* weight = head < args.q_heads ? args.q_weight : args.k_weight;
      if (weight != nullptr) NormHead(x, weight, args.eps, args.head_dim);
      if (args.cos != nullptr) RotateHead(x, args.cos + i * half, args.sin + i * half, half);
    }
  }
}

}  // namespace
}  // namespace yoio::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace yoio::kernels::cpu {

HWY_EXPORT(HeadNormRopeRows);

void HeadNormRope(const HeadNormRopeArgs& args, CpuStream& stream) {
  const int64_t row_bytes = int64_t{2} * (args.q_heads + args.k_heads) * args.head_dim * sizeof(float);
  ForRanges(stream, args.num_rows, row_bytes, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(HeadNormRopeRows)(args, begin, end);
  });
}

// A float holds the angle of position 100,000 only to 2^-8: hence double up to the last rounding. That costs
// some 13 ns an entry, once per step and not per layer.
void RopeTable(const RopeTableArgs& args, CpuStream& stream) {
  constexpr int64_t kBytesPerEntry = 256;  // what could be copied in the time one entry takes
  const int half = args.head_dim / 2;
  double* frequencies = reinterpret_cast<double*>(stream.Scratch(0, 2 * half));
  for (int j = 0; j < half; ++j) frequencies[j] = std::pow(args.theta, -2.0 * j / args.head_dim);
  ForRanges(stream, args.num_tokens, half * kBytesPerEntry, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int j = 0; j < half; ++j) {
        const double angle = args.positions[i] * frequencies[j];
        args.cos[i * half + j] = static_cast<float>(std::cos(angle));
        args.sin[i * half + j] = static_cast<float>(std::sin(angle));
      }
    }
  });
}

}  // namespace yoio::kernels::cpu
#endif  // HWY_ONCE
