#include <algorithm>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/logit_math.h"

namespace yoio::kernels::cpu {
namespace {

void Adjust(const AdjustLogitsArgs& args, const AdjustRow& row, float* out) {
  const float* logits = args.logits + row.logits_row * args.logits_stride;
  if (row.slot < 0) {
    std::copy(logits, logits + args.vocab, out);
  } else {
    const uint32_t* history = args.history + int64_t{row.slot} * args.vocab;
    for (int id = 0; id < args.vocab; ++id) out[id] = Penalize(logits[id], history[id], row);
  }
  for (int i = row.bias_begin; i < row.bias_begin + row.bias_count; ++i) {
    const LogitBias& bias = args.biases[i];
    out[bias.id] = AddBias(out[bias.id], bias.bias);
  }
  for (int i = row.ban_begin; i < row.ban_begin + row.ban_count; ++i) {
    out[args.bans[i]] = Ban(out[args.bans[i]]);
  }
}

}  // namespace

void AdjustLogits(const AdjustLogitsArgs& args, CpuStream& stream) {
  ForTasks(stream, args.num_rows, [&](int, int64_t i) {
    if (args.rows[i].logits_row >= 0) Adjust(args, args.rows[i], args.out + i * args.logits_stride);
  });
}

void RecordTokens(const RecordTokensArgs& args, CpuStream& stream) {
  for (int i = 0; i < args.num_rows; ++i) {
    const int32_t place = args.ids[i] - args.first_id;
    if (args.rows[i].slot < 0 || args.ids[i] < 0 || place < 0 || place >= args.vocab) continue;
    uint32_t& word = args.history[int64_t{args.rows[i].slot} * args.vocab + place];
    word = Recorded(word);
  }
}

}  // namespace yoio::kernels::cpu
