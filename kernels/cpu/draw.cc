#include "kernels/draw.h"

#include <algorithm>
#include <limits>

#include "kernels/contender.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"

namespace yoio::kernels::cpu {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

std::span<const float> LogitsOf(const DrawArgs& args, int64_t i) {
  const float* logits = args.rows[i].is_adjusted != 0
                            ? args.adjusted + i * args.logits_stride
                            : args.logits + args.rows[i].logits_row * args.logits_stride;
  return {logits, static_cast<size_t>(args.vocab)};
}

Candidate CandidateOf(const DrawArgs& args, int64_t i, const DrawScratch& scratch) {
  const std::span<const float> logits = LogitsOf(args, i);
  if (logits.empty()) return {args.first_id, kMinusInfinity};
  const Peak peak = FindPeak(logits);
  if (peak.nan) return {-1, kMinusInfinity};
  const int32_t place = DrawToken(args.rows[i], logits, peak, scratch, args.first_id);
  return {args.first_id + place, logits[place]};
}

int32_t Winner(const PickArgs& args, int64_t i) {
  Contender best;
  for (int part = 0; part < args.num_parts; ++part) {
    const Candidate& candidate = args.candidates[int64_t{part} * args.num_rows + i];
    if (candidate.id < 0) return -1;
    const Contender next = ContenderOf(args.rows[i], candidate);
    if (next.Beats(best)) best = next;
  }
  return best.id;
}

}  // namespace

void Draw(const DrawArgs& args, CpuStream& stream) {
  const size_t vocab = args.vocab;
  ForTasks(stream, args.num_rows, [&](int thread, int64_t i) {
    if (args.rows[i].logits_row < 0) return;
    float* data = stream.Scratch(thread, 2 * vocab);
    const DrawScratch scratch{{data, vocab}, {reinterpret_cast<int32_t*>(data + vocab), vocab}};
    const Candidate drawn = CandidateOf(args, i, scratch);
    if (args.ids != nullptr) {
      args.ids[i] = drawn.id;
    } else {
      args.candidates[i] = drawn;
    }
  });
}

void Pick(const PickArgs& args, CpuStream& stream) {
  for (int i = 0; i < args.num_rows; ++i) {
    if (args.rows[i].logits_row >= 0) args.ids[i] = Winner(args, i);
  }
}

void JoinParts(const JoinPartsArgs& args, CpuStream& stream) {
  ForRanges(stream, args.num_rows, 2 * args.width * sizeof(float), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* out = args.out + int64_t{args.rows[i]} * args.width;
      for (int part = 0; part < args.num_parts; ++part) {
        const int first = std::min(part * args.part_width, args.width);
        const int count = std::min(args.part_width, args.width - first);
        std::copy_n(args.parts + (int64_t{part} * args.num_rows + i) * args.part_width, count, out + first);
      }
    }
  });
}

}  // namespace yoio::kernels::cpu
