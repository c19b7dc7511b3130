#include <cstring>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"

namespace yoio::kernels::cpu {

void WriteKv(const WriteKvArgs& args, CpuStream& stream) {
  const int64_t head_dim = args.head_dim;
  const int64_t slot_size = 2 * head_dim * args.kv_heads;
  const int64_t bytes = head_dim * sizeof(float);
  ForRanges(stream, args.num_rows, 2 * slot_size * sizeof(float), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (args.slots[i] < 0) continue;
      const float* k = AsFloats(args.k) + i * args.row_stride;
      const float* v = AsFloats(args.v) + i * args.row_stride;
      float* out = AsFloats(args.cache) + args.slots[i] * slot_size;
      for (int head = 0; head < args.kv_heads; ++head) {
        std::memcpy(out, k + head * head_dim, bytes);
        std::memcpy(out + head_dim, v + head * head_dim, bytes);
        out += 2 * head_dim;
      }
    }
  });
}

void WriteIndexKeys(const WriteIndexKeysArgs& args, CpuStream& stream) {
  const int64_t dim = args.dim;
  ForRanges(stream, args.num_rows, 2 * dim * sizeof(float), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (args.slots[i] < 0) continue;
      std::memcpy(AsFloats(args.cache) + args.slots[i] * dim, AsFloats(args.keys) + i * dim,
                  dim * sizeof(float));
    }
  });
}

void UpdateWords(const UpdateWordsArgs& args, CpuStream& stream) {
  for (int i = 0; i < args.num_updates; ++i) args.words[args.updates[i].place] = args.updates[i].word;
}

}  // namespace yoio::kernels::cpu
