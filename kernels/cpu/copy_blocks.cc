#include <cstring>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"

namespace yoio::kernels::cpu {

void CopyBlocks(const CopyBlocksArgs& args, CpuStream& stream) {
  const char* from = static_cast<const char*>(args.from);
  char* to = static_cast<char*>(args.to);
  ForRanges(stream, args.num_pairs, 2 * args.block_bytes, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t source = args.pairs[2 * i], destination = args.pairs[2 * i + 1];
      std::memcpy(to + destination * args.to_stride, from + source * args.from_stride, args.block_bytes);
    }
  });
}

}  // namespace yoio::kernels::cpu
