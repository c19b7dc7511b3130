// y = x W^T for many rows, by OpenBLAS.
//
// The library computes in the calling thread (its own threads are turned off) and may be called from several
// at once: each thread of the stream multiplies a tile of columns. The tiles depend on the shape of W alone.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/mat_mul_blocked.cc"
#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"
#include "hwy/foreach_target.h"  // compiles this file once for each instruction set
#include "hwy/highway.h"
#include "kernels/cpu/mat_mul.h"
#include "kernels/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace yoio::kernels::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

void Widen(const BFloat16* in, int64_t count, float* out) {
  const hn::ScalableTag<float> d;
  const hn::RebindToUnsigned<decltype(d)> bits;
  const hn::Rebind<uint16_t, decltype(d)> halves;
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto wide = hn::ShiftLeft<16>(hn::PromoteTo(bits, hn::LoadU(halves, &in[i].bits)));
    hn::Store(hn::BitCast(d, wide), d, out + i);
  }
  for (; i < count; ++i) out[i] = ToFloat(in[i]);
}

}  // namespace
}  // namespace yoio::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace yoio::kernels::cpu {
namespace {

// Columns of one task. Wider tiles repeat the library's packing of x less often, but leave threads idle at
// the end and, widened, the second-level cache (256 x 1,536 floats are 1.5 MiB).
constexpr int64_t kTileColumns = 256;

// The library multiplies matrices with rows x columns x depth up to 100^3 by kernels that sum in another
// order. Fewer rows than that are padded.
constexpr int64_t kMinProduct = 1'000'001;

// Weights smaller than this would need much padding; they take the skinny product, which is as fast for them.
constexpr int64_t kMinWeights = 64 << 10;

// Rows of one task when there are too few tiles for the threads: below this, widening shows.
constexpr int kMinTaskRows = 64;

HWY_EXPORT(Widen);

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// c = a b^T, with b [n, k] dense.
void LibraryProduct(const float* a, int64_t a_stride, const float* b, int64_t m, int64_t n, int64_t k,
                    float* c, int64_t c_stride) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1.0f, a, a_stride, b, k, 0.0f, c, c_stride);
}

// Multiplies one row by the same weights at every place among several numbers of rows.
bool ProbeLibrary() {
  constexpr int64_t kColumns = 256;
  constexpr int64_t kDepth = 400;  // more than the library sums in one go
  constexpr int64_t kMaxRows = 97;
  std::vector<float> x(kMaxRows * kDepth), w(kColumns * kDepth), y(kMaxRows * kColumns), expected;
  for (int64_t i = 0; i < kMaxRows * kDepth; ++i) x[i] = std::sin(static_cast<float>(i % kDepth + 1));
  for (int64_t i = 0; i < kColumns * kDepth; ++i) w[i] = std::sin(static_cast<float>(3 * i + 2));
  for (const int64_t rows : {11, 12, 13, 16, 30, 48, 64, 97}) {
    LibraryProduct(x.data(), kDepth, w.data(), rows, kColumns, kDepth, y.data(), kColumns);
    if (expected.empty()) expected.assign(y.begin(), y.begin() + kColumns);
    for (int64_t row = 0; row < rows; ++row) {
      if (!std::equal(expected.begin(), expected.end(), y.begin() + row * kColumns)) return false;
    }
  }
  return true;
}

// Rows [row, row + num_rows) times columns [begin, end). Scratch holds the widened tile and, for few rows,
// padded copies of x and y.
void MultiplyTile(const Product& args, int row, int64_t num_rows, int64_t begin, int64_t end, int thread,
                  CpuStream& stream) {
  const int64_t k = args.w.cols;
  const int64_t columns = end - begin;
  const int64_t min_rows = CeilDiv(kMinProduct, columns * k);
  const bool pad = num_rows < min_rows;
  const bool widen = args.w.dtype == DType::kBF16;
  float* scratch = stream.Scratch(thread, (widen ? columns * k : 0) + (pad ? min_rows * (k + columns) : 0));

  const float* tile = static_cast<const float*>(args.w.data) + begin * k;
  if (widen) {
    const BFloat16* weights = static_cast<const BFloat16*>(args.w.data) + begin * k;
    HWY_DYNAMIC_DISPATCH(Widen)(weights, columns * k, scratch);
    tile = scratch;
    scratch += columns * k;
  }
  const float* x = args.x + row * args.x_stride;
  float* y = args.y + row * args.y_stride + begin;
  if (!pad) return LibraryProduct(x, args.x_stride, tile, num_rows, columns, k, y, args.y_stride);

  float* padded_x = scratch;
  float* padded_y = scratch + min_rows * k;
  for (int64_t r = 0; r < num_rows; ++r) std::copy_n(x + r * args.x_stride, k, padded_x + r * k);
  std::fill(padded_x + num_rows * k, padded_x + min_rows * k, 0.0f);
  LibraryProduct(padded_x, k, tile, min_rows, columns, k, padded_y, columns);
  for (int64_t r = 0; r < num_rows; ++r) std::copy_n(padded_y + r * columns, columns, y + r * args.y_stride);
}

}  // namespace

bool LibraryKeepsRows() {
  static const bool keeps = [] {
    openblas_set_num_threads(1);  // before the first product, whichever thread comes to it
    return ProbeLibrary();
  }();
  return keeps;
}

void BlockedMatMul(const Product& args, CpuStream& stream) {
  const int64_t n = args.w.rows;
  const int64_t k = args.w.cols;
  if (n * k < kMinWeights || !LibraryKeepsRows()) return SkinnyMatMul(args, stream);

  // Tiles of one width, but for the last, so that no tile is a sliver that needs padding.
  constexpr int64_t kColumnMultiple = 16;
  const int64_t width = CeilDiv(CeilDiv(n, CeilDiv(n, kTileColumns)), kColumnMultiple) * kColumnMultiple;
  const int64_t tiles = CeilDiv(n, width);
  const int64_t wanted = CeilDiv(3 * stream.pool().num_threads(), tiles);
  const int64_t blocks = std::clamp<int64_t>(args.num_rows / kMinTaskRows, 1, wanted);
  ForTasks(stream, tiles * blocks, [&](int thread, int64_t task) {
    const int64_t begin = task / blocks * width;
    const int64_t block = task % blocks;
    const int row = args.num_rows * block / blocks;
    const int64_t num_rows = args.num_rows * (block + 1) / blocks - row;
    MultiplyTile(args, row, num_rows, begin, std::min(n, begin + width), thread, stream);
  });
}

}  // namespace yoio::kernels::cpu
#endif  // HWY_ONCE
