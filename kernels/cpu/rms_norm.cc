#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rms_norm.cc"
#include <cmath>
#include <cstring>

#include "hwy/foreach_target.h"  // compiles this file once for each instruction set
#include "hwy/highway.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace yoio::kernels::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;

// x[0, n) += delta[0, n).
void AddRow(float* HWY_RESTRICT x, const float* HWY_RESTRICT delta, size_t n) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, delta + i)), d, x + i);
  for (; i < n; ++i) x[i] += delta[i];
}

// Four independent sums hide the latency of the multiply-add.
float SumOfSquares(const float* HWY_RESTRICT x, size_t n) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  auto sum0 = hn::Zero(d), sum1 = hn::Zero(d), sum2 = hn::Zero(d), sum3 = hn::Zero(d);
  size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    const auto x0 = hn::LoadU(d, x + i), x1 = hn::LoadU(d, x + i + lanes);
    const auto x2 = hn::LoadU(d, x + i + 2 * lanes), x3 = hn::LoadU(d, x + i + 3 * lanes);
    sum0 = hn::MulAdd(x0, x0, sum0);
    sum1 = hn::MulAdd(x1, x1, sum1);
    sum2 = hn::MulAdd(x2, x2, sum2);
    sum3 = hn::MulAdd(x3, x3, sum3);
  }
  for (; i + lanes <= n; i += lanes) {
    const auto x0 = hn::LoadU(d, x + i);
    sum0 = hn::MulAdd(x0, x0, sum0);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3))));
  for (; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

// out[i] = x[i] * scale * weight[i].
void ScaleRow(const float* x, float scale, const float* HWY_RESTRICT weight, float* out, size_t n) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  const auto factor = hn::Set(d, scale);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, x + i), factor), hn::LoadU(d, weight + i)), d, out + i);
  }
  for (; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

void ResidualRmsNormRows(const ResidualRmsNormArgs& args, int64_t begin, int64_t end) {
  const size_t hidden = args.hidden;
  for (int64_t i = begin; i < end; ++i) {
    float* x = args.x + i * args.hidden;
    if (args.starts) {
      std::memcpy(x, AsFloats(args.delta) + i * args.hidden, hidden * sizeof(float));
    } else if (args.delta != nullptr) {
      AddRow(x, AsFloats(args.delta) + i * args.hidden, hidden);
    }
    if (args.weight == nullptr) continue;
    const float scale = 1.0f / std::sqrt(SumOfSquares(x, hidden) / static_cast<float>(hidden) + args.eps);
    ScaleRow(x, scale, args.weight, AsFloats(args.out) + i * args.hidden, hidden);
  }
}

}  // namespace
}  // namespace yoio::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace yoio::kernels::cpu {

HWY_EXPORT(ResidualRmsNormRows);

void ResidualRmsNorm(const ResidualRmsNormArgs& args, CpuStream& stream) {
  ForRanges(stream, args.num_rows, 4 * args.hidden * sizeof(float), [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(ResidualRmsNormRows)(args, begin, end);
  });
}

}  // namespace yoio::kernels::cpu
#endif  // HWY_ONCE
