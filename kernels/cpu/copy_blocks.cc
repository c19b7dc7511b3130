#include <cstring>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"

namespace yoio::kernels::cpu {

void CopyBlocks(const CopyBlocksArgs& args, CpuStream& stream) {
  char* cache = static_cast<char*>(args.cache);
  ForRanges(stream, args.num_pairs, 2 * args.block_bytes, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t source = args.pairs[2 * i];
      const int64_t destination = args.pairs[2 * i + 1];
      std::memcpy(cache + destination * args.block_bytes, cache + source * args.block_bytes,
                  args.block_bytes);
    }
  });
}

}  // namespace yoio::kernels::cpu
