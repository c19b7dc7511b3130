#include "kernels/cpu/mat_mul.h"

#include "base/check.h"

namespace yoio::kernels::cpu {

void MatMul(const MatMulArgs& args, CpuStream& stream) {
  YOIO_CHECK_LE(args.num_prompt_rows, args.num_rows);
  YOIO_CHECK(args.y_type == DType::kF32);
  const Product product{.x = AsFloats(args.x),
                        .x_stride = args.x_stride,
                        .w = args.w,
                        .num_rows = args.num_prompt_rows,
                        .y = static_cast<float*>(args.y),
                        .y_stride = args.y_stride};
  if (product.num_rows > 0) BlockedMatMul(product, stream);

  Product generated = product;
  generated.x += args.num_prompt_rows * args.x_stride;
  generated.y += args.num_prompt_rows * args.y_stride;
  generated.num_rows = args.num_rows - args.num_prompt_rows;
  if (generated.num_rows > 0) SkinnyMatMul(generated, stream);
}

// Two passes: the product is bound by its weights or its arithmetic, and the gate costs a hundredth of
// either.
void GateUp(const GateUpArgs& args, CpuStream& stream) {
  const int ffn = static_cast<int>(args.w.rows / 2);
  MatMul({.x = args.x,
          .x_stride = args.w.cols,
          .w = args.w,
          .num_rows = args.num_rows,
          .num_prompt_rows = args.num_prompt_rows,
          .y = args.scratch,
          .y_type = DType::kF32,
          .y_stride = args.w.rows},
         stream);
  SiluGate({.gate_up = args.scratch, .num_rows = args.num_rows, .ffn = ffn, .out = args.out}, stream);
}

}  // namespace yoio::kernels::cpu
