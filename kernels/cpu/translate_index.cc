#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"

namespace yoio::kernels::cpu {

void TranslateIndex(const TranslateIndexArgs& args, CpuStream& stream) {
  const int64_t top_k = args.top_k;
  ForRanges(stream, args.num_rows, 2 * top_k * sizeof(int32_t), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int32_t* table = args.block_tables + int64_t{args.rows[i].slot} * args.max_blocks;
      const int32_t* positions = args.positions + i * top_k;
      int32_t* slots = args.slots + i * top_k;
      const int count = args.count[i];
      for (int j = 0; j < count; ++j) {
        slots[j] = table[positions[j] / kBlockTokens] * kBlockTokens + positions[j] % kBlockTokens;
      }
    }
  });
}

}  // namespace yoio::kernels::cpu
