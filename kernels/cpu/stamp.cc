#include <algorithm>
#include <atomic>
#include <chrono>

#include "base/clock.h"
#include "kernels/cpu/cpu_ops.h"

namespace yoio::kernels::cpu {

void Stamp(const StampArgs& args, CpuStream&) {
  const int64_t now = std::chrono::nanoseconds(Clock::now().time_since_epoch()).count();
  if (args.part == 0) {
    std::fill_n(args.times + 1, args.num_parts, 0);
  } else {
    args.times[args.part] += now - args.times[0];
  }
  args.times[0] = now;
  if (args.progress != nullptr) std::atomic_ref(*args.progress).store(args.value, std::memory_order_relaxed);
}

}  // namespace yoio::kernels::cpu
