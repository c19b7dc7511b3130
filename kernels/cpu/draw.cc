#include "kernels/draw.h"

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"

namespace yoio::kernels::cpu {
namespace {

int32_t DrawRowOf(const DrawArgs& args, int64_t i, const DrawScratch& scratch) {
  const DrawRow& row = args.rows[i];
  if (row.logits_row < 0) return 0;
  const std::span<const float> logits(row.is_adjusted != 0
                                          ? args.adjusted + i * args.vocab
                                          : args.logits + row.logits_row * args.logits_stride,
                                      args.vocab);
  const Peak peak = FindPeak(logits);
  return peak.nan ? -1 : DrawToken(row, logits, peak, scratch);
}

}  // namespace

void Draw(const DrawArgs& args, CpuStream& stream) {
  const size_t vocab = args.vocab;
  ForTasks(stream, args.num_rows, [&](int thread, int64_t i) {
    float* data = stream.Scratch(thread, 2 * vocab);
    const DrawScratch scratch{{data, vocab}, {reinterpret_cast<int32_t*>(data + vocab), vocab}};
    args.ids[i] = DrawRowOf(args, i, scratch);
  });
}

}  // namespace yoio::kernels::cpu
