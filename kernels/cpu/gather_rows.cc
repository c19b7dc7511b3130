#include <cstring>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"

namespace yoio::kernels::cpu {

void GatherRows(const GatherRowsArgs& args, CpuStream& stream) {
  const int64_t width = args.width;
  ForRanges(stream, args.num_rows, 2 * width * sizeof(float), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(args.out + i * width, args.src + args.rows[i] * width, width * sizeof(float));
    }
  });
}

}  // namespace yoio::kernels::cpu
