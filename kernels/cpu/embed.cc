#include <algorithm>
#include <cstring>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"

namespace yoio::kernels::cpu {

void Embed(const EmbedArgs& args, CpuStream& stream) {
  const int64_t hidden = args.table.cols;
  ForRanges(stream, args.num_tokens, hidden * sizeof(float), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* out = AsFloats(args.out) + i * hidden;
      const int32_t id = args.ids[i] >= 0 ? args.ids[i] : args.previous[-1 - args.ids[i]];
      const int64_t row = int64_t{id} - args.vocab_begin;
      if (row < 0 || row >= args.table.rows) {
        std::fill_n(out, hidden, 0.0f);
      } else if (args.table.dtype == DType::kF32) {
        std::memcpy(out, static_cast<const float*>(args.table.data) + row * hidden, hidden * sizeof(float));
      } else {
        const BFloat16* in = static_cast<const BFloat16*>(args.table.data) + row * hidden;
        for (int64_t j = 0; j < hidden; ++j) out[j] = ToFloat(in[j]);
      }
    }
  });
}

}  // namespace yoio::kernels::cpu
