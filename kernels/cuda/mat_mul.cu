// y = x W^T, and silu(x Wgate^T) * (x Wup^T). Rows of prompts go to the library (mat_mul_library.h), whose
// floor is 2 rows n k operations; the generated rows behind them go to the skinny product
// (mat_mul_skinny.cu), whose floor is one read of W.
//
// Invariant I5: a generated row has the same bits in any company of up to kSkinnyRows. More of them than that
// go to the library as well, whose choice of kernel, and with it the order of a sum, follows the number of
// rows; so it does for prompts.
#include "base/check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mat_mul_library.h"
#include "kernels/cuda/mat_mul_skinny.h"

namespace yoio::kernels::cuda {
namespace {

// What bulk copies and the library's kernels ask for: 16-byte aligned rows.
void CheckOperands(const Matrix& w, const void* x, int64_t x_stride, const void* y, int64_t y_stride) {
  const auto aligned = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  YOIO_CHECK(w.dtype == DType::kBF16) << "CUDA multiplies by bf16 weights only";
  YOIO_CHECK(w.cols % 8 == 0 && x_stride % 8 == 0 && y_stride % 8 == 0)
      << "CUDA needs widths and strides that are multiples of 8: k " << w.cols << ", x_stride " << x_stride
      << ", y_stride " << y_stride;
  YOIO_CHECK(aligned(w.data) && aligned(x) && aligned(y)) << "CUDA needs operands at multiples of 16 bytes";
}

bool GoesToLibrary(int generated_rows) { return generated_rows > kSkinnyRows || !SkinnyRuns(); }

void MultiplyWithLibrary(const LibraryProduct& product, CudaStream& stream) {
  stream.Note(stream.products().Multiply(product, stream.blas(), stream.blas_scratch(),
                                         kBlasScratchBytes, stream.get()),
              "MatMul");
}

}  // namespace

void MatMul(const MatMulArgs& args, CudaStream& stream) {
  if (args.num_rows == 0) return;
  CheckOperands(args.w, args.x, args.x_stride, args.y, args.y_stride);
  const auto y_at = [&](int row) {
    return static_cast<char*>(args.y) + row * args.y_stride * static_cast<int64_t>(SizeOf(args.y_type));
  };
  const auto library = [&](int begin, int end) {
    if (begin == end) return;
    MultiplyWithLibrary({.x = Halves(args.x) + begin * args.x_stride,
                         .x_stride = args.x_stride,
                         .w = args.w.data,
                         .n = args.w.rows,
                         .k = args.w.cols,
                         .rows = end - begin,
                         .y = y_at(begin),
                         .y_type = args.y_type,
                         .y_stride = args.y_stride},
                        stream);
  };
  library(0, args.num_prompt_rows);
  const int generated = args.num_rows - args.num_prompt_rows;
  if (GoesToLibrary(generated)) return library(args.num_prompt_rows, args.num_rows);
  MultiplySkinny({.x = Halves(args.x) + args.num_prompt_rows * args.x_stride,
                  .x_stride = args.x_stride,
                  .w = args.w.data,
                  .outputs = args.w.rows,
                  .k = args.w.cols,
                  .rows = generated,
                  .output = args.y_type == DType::kF32 ? SkinnyOutput::kF32 : SkinnyOutput::kBF16,
                  .y = y_at(args.num_prompt_rows),
                  .y_stride = args.y_stride},
                 stream);
}

void GateUp(const GateUpArgs& args, CudaStream& stream) {
  if (args.num_rows == 0) return;
  const int64_t k = args.w.cols, ffn = args.w.rows / 2;
  CheckOperands(args.w, args.x, k, args.out, ffn);
  const auto library = [&](int begin, int end) {
    if (begin == end) return;
    __nv_bfloat16* products = Halves(args.scratch) + begin * 2 * ffn;
    MultiplyWithLibrary({.x = Halves(args.x) + begin * k,
                         .x_stride = k,
                         .w = args.w.data,
                         .n = 2 * ffn,
                         .k = k,
                         .rows = end - begin,
                         .y = products,
                         .y_type = DType::kBF16,
                         .y_stride = 2 * ffn},
                        stream);
    SiluGate({.gate_up = reinterpret_cast<const Activation*>(products),
              .num_rows = end - begin,
              .ffn = static_cast<int>(ffn),
              .out = reinterpret_cast<Activation*>(Halves(args.out) + begin * ffn)},
             stream);
  };
  library(0, args.num_prompt_rows);
  const int generated = args.num_rows - args.num_prompt_rows;
  if (GoesToLibrary(generated)) return library(args.num_prompt_rows, args.num_rows);
  MultiplySkinny({.x = Halves(args.x) + args.num_prompt_rows * k,
                  .x_stride = k,
                  .w = args.w.data,
                  .outputs = ffn,
                  .k = k,
                  .rows = generated,
                  .output = SkinnyOutput::kGated,
                  .y = Halves(args.out) + args.num_prompt_rows * ffn,
                  .y_stride = ffn},
                 stream);
}

}  // namespace yoio::kernels::cuda
