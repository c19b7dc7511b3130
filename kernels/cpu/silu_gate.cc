#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/silu_gate.cc"
#include <algorithm>
#include <cmath>

#include "hwy/foreach_target.h"  // compiles this file once for each instruction set
#include "hwy/highway.h"
// Must come after foreach_target.h.
#include "hwy/contrib/math/math-inl.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace yoio::kernels::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Vector = hn::Vec<Floats>;

// g * sigmoid(g) * u, from e^-|g|, which cannot overflow.
HWY_INLINE Vector Gate(Vector g, Vector u) {
  const Floats d;
  const Vector one = hn::Set(d, 1.0f);
  const Vector e = hn::Exp(d, hn::Neg(hn::Abs(g)));
  const Vector sigmoid = hn::Div(hn::IfThenElse(hn::Lt(g, hn::Zero(d)), e, one), hn::Add(one, e));
  return hn::Mul(hn::Mul(g, sigmoid), u);
}

// out[i] = silu(gate[i]) * up[i] for i in [0, count). The last few go through a padded vector, so that an
// element's bits do not depend on where a range ends.
void GateRange(const float* HWY_RESTRICT gate, const float* HWY_RESTRICT up, int64_t count,
               float* HWY_RESTRICT out) {
  const Floats d;
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(Gate(hn::LoadU(d, gate + i), hn::LoadU(d, up + i)), d, out + i);
  }
  if (i == count) return;
  HWY_ALIGN float last_gate[hn::MaxLanes(d)] = {};
  HWY_ALIGN float last_up[hn::MaxLanes(d)] = {};
  std::copy_n(gate + i, count - i, last_gate);
  std::copy_n(up + i, count - i, last_up);
  hn::Store(Gate(hn::Load(d, last_gate), hn::Load(d, last_up)), d, last_gate);
  std::copy_n(last_gate, count - i, out + i);
}

}  // namespace
}  // namespace yoio::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace yoio::kernels::cpu {

HWY_EXPORT(GateRange);

void SiluGate(const SiluGateArgs& args, CpuStream& stream) {
  const int64_t ffn = args.ffn;
  ForRanges(stream, args.num_rows * ffn, 3 * sizeof(float), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end;) {
      const int64_t row = i / ffn;
      const int64_t column = i % ffn;
      const int64_t count = std::min(end - i, ffn - column);
      const float* gate = AsFloats(args.gate_up) + 2 * row * ffn + column;
      HWY_DYNAMIC_DISPATCH(GateRange)(gate, gate + ffn, count, AsFloats(args.out) + i);
      i += count;
    }
  });
}

}  // namespace yoio::kernels::cpu
#endif  // HWY_ONCE
