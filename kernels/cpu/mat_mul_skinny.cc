// y = x W^T for few rows: the time is that of reading W, so all of this serves one sequential stream of it.
//
// An output is one dot product along a row of W. Whatever else is computed beside it, its sum runs in one
// order: step by step down the lanes of a single accumulator, then across the lanes. So a row's bits do not
// depend on its company.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/mat_mul_skinny.cc"
#include <algorithm>
#include <cstring>

#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // compiles this file once for each instruction set
#include "hwy/highway.h"
#include "kernels/cpu/mat_mul.h"

HWY_BEFORE_NAMESPACE();
namespace yoio::kernels::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Vector = hn::Vec<Floats>;
constexpr int kLanes = hn::MaxLanes(Floats());
constexpr int kStep = 2 * kLanes;  // weights taken at once: a bfloat16 vector widens to two of floats

// Outputs computed side by side: kMaxRows x kMaxColumns accumulators, a vector for each column's weights and
// one for x have to fit the registers: 32 of AVX-512 (better targets have lower numbers) and ARM, 16 of
// others.
constexpr bool kManyRegisters = HWY_ARCH_ARM_A64 || (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3);
constexpr int kMaxRows = 6;
constexpr int kMaxColumns = kManyRegisters ? 4 : 2;

// Half of the next kStep weights: the even or the odd ones of bfloat16, because a shift or a mask widens
// those without moving anything between lanes; the first or the second kLanes floats. OrderRow gives x the
// same order.
template <int kHalf>
HWY_INLINE Vector LoadWeights(const float* w) {
  return hn::LoadU(Floats(), w + kHalf * kLanes);
}

template <int kHalf>
HWY_INLINE Vector LoadWeights(const BFloat16* w) {
#if HWY_TARGET == HWY_SCALAR  // has no vector of two halves
  return hn::Set(Floats(), ToFloat(w[kHalf]));
#else
  const hn::RebindToUnsigned<Floats> bits;
  const hn::Repartition<uint16_t, Floats> halves;
  const auto pairs = hn::BitCast(bits, hn::LoadU(halves, &w->bits));
  return hn::BitCast(Floats(),
                     kHalf == 0 ? hn::ShiftLeft<16>(pairs) : hn::And(pairs, hn::Set(bits, 0xffff0000u)));
#endif
}

// Adds kLanes products to every sum.
template <int kHalf, int kRows, int kColumns, typename T>
HWY_INLINE void HalfStep(const float* HWY_RESTRICT x, int64_t x_stride, const T* HWY_RESTRICT w,
                         int64_t w_stride, Vector (&sums)[kRows][kColumns]) {
  Vector weights[kColumns];
  for (int c = 0; c < kColumns; ++c) weights[c] = LoadWeights<kHalf>(w + c * w_stride);
  for (int r = 0; r < kRows; ++r) {
    const Vector value = hn::Load(Floats(), x + r * x_stride + kHalf * kLanes);
    for (int c = 0; c < kColumns; ++c) sums[r][c] = hn::MulAdd(value, weights[c], sums[r][c]);
  }
}

// Weights to bring into the cache while others are multiplied: `count` rows of them. The hardware alone
// fetches ahead only to the end of a page.
template <typename T>
struct Ahead {
  const T* w;
  int count;
};

// y[r, c] = x[r] . w[c] for kRows rows of x, [kRows, padded] as OrderRow left them, and kColumns rows of
// weights.
template <int kRows, int kColumns, typename T>
void Tile(const float* HWY_RESTRICT x, int64_t padded, const T* HWY_RESTRICT w, int64_t k, Ahead<T> ahead,
          float* HWY_RESTRICT y, int64_t y_stride) {
  const Floats d;
  Vector sums[kRows][kColumns];
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) sums[r][c] = hn::Zero(d);
  }
  const int64_t whole = k / kStep * kStep;
  for (int64_t i = 0; i < whole; i += kStep) {
    for (int a = 0; a < ahead.count; ++a) hwy::Prefetch(ahead.w + a * k + i);
    HalfStep<0>(x + i, padded, w + i, k, sums);
    HalfStep<1>(x + i, padded, w + i, k, sums);
  }
  if (whole < k) {
    T rest[kColumns][kStep] = {};
    for (int c = 0; c < kColumns; ++c) std::copy_n(w + c * k + whole, k - whole, rest[c]);
    HalfStep<0>(x + whole, padded, rest[0], kStep, sums);
    HalfStep<1>(x + whole, padded, rest[0], kStep, sums);
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) y[r * y_stride + c] = hn::GetLane(hn::SumOfLanes(d, sums[r][c]));
  }
}

// Tile for a number of rows known at run time, in [1, kRows].
template <int kRows, int kColumns, typename T>
void TileOf(int num_rows, const float* x, int64_t padded, const T* w, int64_t k, Ahead<T> ahead, float* y,
            int64_t y_stride) {
  if constexpr (kRows > 1) {
    if (num_rows < kRows) return TileOf<kRows - 1, kColumns>(num_rows, x, padded, w, k, ahead, y, y_stride);
  }
  Tile<kRows, kColumns>(x, padded, w, k, ahead, y, y_stride);
}

// All rows against kColumns rows of weights, which stay in the first-level cache from one group of rows to
// the next. The groups share the fetching of the following kColumns rows, so that memory works as long as the
// multipliers do.
template <int kColumns, typename T>
void Columns(const float* x, int64_t padded, int num_rows, const T* w, int64_t k, bool fetch, float* y,
             int64_t y_stride) {
  const int groups = (num_rows + kMaxRows - 1) / kMaxRows;
  const int fetchers = std::min(groups, kColumns);
  for (int group = 0; group < groups; ++group) {
    const int begin = num_rows * group / groups;
    const int end = num_rows * (group + 1) / groups;
    Ahead<T> ahead = {w, 0};
    if (fetch && group < fetchers) {
      const int first = kColumns * group / fetchers;
      ahead = {w + (kColumns + first) * k, kColumns * (group + 1) / fetchers - first};
    }
    TileOf<kMaxRows, kColumns>(end - begin, x + begin * padded, padded, w, k, ahead, y + begin * y_stride,
                               y_stride);
  }
}

// ProductColumns for one type of weights.
template <typename T>
void ProductOf(const Product& args, const float* x, int64_t padded, int row, int num_rows, int64_t begin,
               int64_t end) {
  const int64_t k = args.w.cols;
  const T* w = static_cast<const T*>(args.w.data);
  float* y = args.y + row * args.y_stride;
  int64_t n = begin;
  for (; n + kMaxColumns <= end; n += kMaxColumns) {
    const bool fetch = n + 2 * kMaxColumns <= args.w.rows;
    Columns<kMaxColumns>(x, padded, num_rows, w + n * k, k, fetch, y + n, args.y_stride);
  }
  for (; n < end; ++n) Columns<1>(x, padded, num_rows, w + n * k, k, false, y + n, args.y_stride);
}

// Columns [begin, end) of the product of rows [row, row + num_rows), which lie in `x` as OrderRow left them.
void ProductColumns(const Product& args, const float* x, int64_t padded, int row, int num_rows, int64_t begin,
                    int64_t end) {
  if (args.w.dtype == DType::kBF16) {
    ProductOf<BFloat16>(args, x, padded, row, num_rows, begin, end);
  } else {
    ProductOf<float>(args, x, padded, row, num_rows, begin, end);
  }
}

// Copies a row of x into the order in which LoadWeights yields weights, padded with zeros to whole steps.
void OrderRow(const float* x, int64_t k, DType dtype, float* out) {
  const Floats d;
  const int64_t whole = k / kStep * kStep;
  if (dtype == DType::kF32) {
    std::copy_n(x, k, out);
    std::fill(out + k, out + whole + (whole < k ? kStep : 0), 0.0f);
    return;
  }
  for (int64_t i = 0; i < whole; i += kStep) {
    Vector even, odd;
    hn::LoadInterleaved2(d, x + i, even, odd);
    hn::Store(even, d, out + i);
    hn::Store(odd, d, out + i + kLanes);
  }
  if (whole == k) return;
  std::fill(out + whole, out + whole + kStep, 0.0f);
  for (int64_t i = whole; i < k; ++i) out[whole + (i - whole) / 2 + (i % 2) * kLanes] = x[i];
}

}  // namespace
}  // namespace yoio::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace yoio::kernels::cpu {
namespace {

// Rows multiplied in one pass over the weights: with 1,536 columns their x takes 384 KiB of the second-level
// cache.
constexpr int kPassRows = 64;

// Weights that one task streams: long enough to hide its start, short enough to balance the threads.
constexpr int64_t kTaskBytes = 128 << 10;

constexpr int64_t kPadding = 32;  // floats; a multiple of every instruction set's step
constexpr int64_t kTaskColumns = 4;

}  // namespace

HWY_EXPORT(OrderRow);
HWY_EXPORT(ProductColumns);

void SkinnyMatMul(const Product& args, CpuStream& stream) {
  const int64_t n = args.w.rows;
  const int64_t k = args.w.cols;
  const int64_t padded = (k + kPadding - 1) / kPadding * kPadding;
  const int64_t rows_per_task = kTaskBytes / (k * static_cast<int64_t>(SizeOf(args.w.dtype)));
  const int64_t width = std::max<int64_t>(1, rows_per_task / kTaskColumns) * kTaskColumns;
  float* x = stream.Scratch(0, std::min(args.num_rows, kPassRows) * padded);
  for (int row = 0; row < args.num_rows; row += kPassRows) {
    const int num_rows = std::min(kPassRows, args.num_rows - row);
    for (int r = 0; r < num_rows; ++r) {
      HWY_DYNAMIC_DISPATCH(OrderRow)(args.x + (row + r) * args.x_stride, k, args.w.dtype, x + r * padded);
    }
    stream.pool().ParallelFor((n + width - 1) / width, [&](int64_t task) {
      HWY_DYNAMIC_DISPATCH(ProductColumns)
      (args, x, padded, row, num_rows, task * width, std::min(n, (task + 1) * width));
    });
  }
}

}  // namespace yoio::kernels::cpu
#endif  // HWY_ONCE
