#include <cstring>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"

namespace yoio::kernels::cpu {

void GatherRows(const GatherRowsArgs& args, CpuStream& stream) {
  const int64_t bytes = args.row_bytes;
  const char* src = static_cast<const char*>(args.src);
  char* out = static_cast<char*>(args.out);
  ForRanges(stream, args.num_rows, 2 * bytes, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(out + i * bytes, src + args.rows[i] * bytes, bytes);
    }
  });
}

}  // namespace yoio::kernels::cpu
