#include "kernels/cpu/mat_mul.h"

#include "base/check.h"

namespace yoio::kernels::cpu {

void MatMul(const MatMulArgs& args, CpuStream& stream) {
  YOIO_CHECK_LE(args.num_prompt_rows, args.num_rows);
  MatMulArgs prompt = args;
  prompt.num_rows = args.num_prompt_rows;
  if (prompt.num_rows > 0) BlockedMatMul(prompt, stream);

  MatMulArgs generated = args;
  generated.x += args.num_prompt_rows * args.x_stride;
  generated.y += args.num_prompt_rows * args.y_stride;
  generated.num_rows = args.num_rows - args.num_prompt_rows;
  if (generated.num_rows > 0) SkinnyMatMul(generated, stream);
}

}  // namespace yoio::kernels::cpu
