#include <algorithm>
#include <limits>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/logit_math.h"
#include "kernels/logit_scan.h"

namespace yoio::kernels::cpu {
namespace {

LogSoftmax LogSoftmaxOf(std::span<const float> logits, float highest) {
  const bool infinite = LogSoftmax::IsInfinite(highest);
  return {highest,
          infinite ? std::count(logits.begin(), logits.end(), highest) : SumWeights(logits, highest, 1.0f)};
}

// `order` is [vocab], `out` what the row writes.
void LogprobsOf(std::span<const float> logits, int32_t id, std::span<int32_t> order,
                std::span<TokenLogprob> out) {
  out[0] = {id, std::numeric_limits<float>::quiet_NaN()};
  std::fill(out.begin() + 1, out.end(), TokenLogprob{-1, 0.0f});
  const Peak peak = FindPeak(logits);
  if (peak.nan || id < 0) return;
  const LogSoftmax logprob = LogSoftmaxOf(logits, peak.value);
  out[0].logprob = logprob(logits[id]);
  auto next = out.begin() + 1;
  for (const int32_t best : SelectTop(logits, static_cast<int>(out.size()) - 1, order)) {
    *next++ = {best, logprob(logits[best])};
  }
}

}  // namespace

void Logprobs(const LogprobsArgs& args, CpuStream& stream) {
  const size_t vocab = args.vocab;
  ForTasks(stream, args.num_rows, [&](int thread, int64_t i) {
    const LogprobRow& row = args.rows[i];
    if (row.logits_row < 0) return;
    auto* order = reinterpret_cast<int32_t*>(stream.Scratch(thread, vocab));
    LogprobsOf({args.logits + row.logits_row * args.logits_stride, vocab},
               row.id >= 0 ? row.id : args.drawn[-1 - row.id], {order, vocab},
               {args.out + i * (1 + args.max_top), static_cast<size_t>(1 + row.top_n)});
  });
}

}  // namespace yoio::kernels::cpu
