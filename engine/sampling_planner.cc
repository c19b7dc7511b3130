#include "engine/sampling_planner.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "engine/model/activations.h"
#include "kernels/logit_math.h"

namespace yoio {
namespace {

// Whether the best of the best tokens of all parts of the vocabulary is what is drawn.
bool HasCandidates(const kernels::DrawRow& row, int vocab) {
  if (row.temperature == 0.0f) return true;
  return (row.top_k == 0 || row.top_k >= vocab) && row.top_p == 1.0f && row.min_p == 0.0f;
}

}  // namespace

void SamplingLists::Clear() {
  ForEach([](auto& list) { list.host.clear(); });
  raw_rows.keys.clear();
  adjusted_rows.keys.clear();
  resets.clear();
}

SamplingPlanner::SamplingPlanner(const Shard& shard, int vocab, int max_sequences)
    : shard_(shard), vocab_(vocab), slots_(max_sequences), words_(shard.vocab) {
  YOIO_CHECK_GE(vocab, 1);
}

void SamplingPlanner::Plan(const StepPlan& plan, SamplingLists& lists) {
  lists.Clear();
  for (const int32_t slot : plan.released_slots) slots_[slot] = {};
  for (const SlotAdmission& admission : plan.admitted) Admit(admission, lists);
  int first = 0;  // sample of the tile
  for (int i = 0; i < static_cast<int>(plan.samples.size()); ++i) {
    const SampleRow& row = plan.samples[i];
    if (row.output_row / kLogitsTile != plan.samples[first].output_row / kLogitsTile) first = i;
    AddSample(row, i, (i - first) % kLogitsTile, lists);
  }
  for (const ScoreRow& row : plan.scores) {
    lists.wanted.host.push_back({row.output_row % kLogitsTile, row.target, row.top_n});
  }
  if (several()) AddRawRows(plan, lists);
}

void SamplingPlanner::Admit(const SlotAdmission& admission, SamplingLists& lists) {
  YOIO_CHECK(admission.slot >= 0 && admission.slot < static_cast<int>(slots_.size()))
      << "slot " << admission.slot << " of " << slots_.size();
  const auto check = [this](const char* what, int32_t id) {
    YOIO_CHECK(id >= 0 && id < vocab_) << what << " " << id << " of a vocabulary of " << vocab_;
  };
  for (const int32_t id : admission.stop_ids) check("stop id", id);
  for (const auto& [id, bias] : admission.sampling.logit_bias) check("bias", id);
  for (const int32_t id : admission.prompt_ids) check("prompt id", id);
  for (const int32_t id : admission.output_ids) check("output id", id);
  slots_[admission.slot] = {admission.sampling, admission.stop_ids, admission.min_tokens};
  if (admission.sampling.NeedsHistory()) AddHistory(admission, lists);
}

void SamplingPlanner::AddHistory(const SlotAdmission& admission, SamplingLists& lists) {
  const auto for_places = [this](const std::vector<int32_t>& ids, const auto& visit) {
    for (const int32_t id : ids) {
      if (const int32_t place = PlaceOf(id); place >= 0) visit(place);
    }
  };
  for_places(admission.prompt_ids, [&](int32_t place) { words_[place] |= kernels::kSeenBit; });
  for_places(admission.output_ids, [&](int32_t place) { words_[place] = kernels::Recorded(words_[place]); });
  std::vector<kernels::WordUpdate>& updates = lists.updates.host;
  const size_t begin = updates.size();
  for (const auto* ids : {&admission.prompt_ids, &admission.output_ids}) {
    for_places(*ids, [&](int32_t place) {
      const uint32_t word = std::exchange(words_[place], 0);
      if (word != 0) updates.push_back({place, static_cast<int32_t>(word)});
    });
  }
  lists.resets.push_back({admission.slot, begin, updates.size() - begin});
}

// `place`: among the samples drawn in one call.
void SamplingPlanner::AddSample(const SampleRow& row, int index, int place, SamplingLists& lists) const {
  YOIO_CHECK_LE(row.top_n, kMaxTopLogprobs);
  const Slot& slot = slots_[row.slot];
  const bool bans = row.output_position < slot.min_tokens && !slot.stop_ids.empty();
  const bool adjusts = slot.sampling.NeedsHistory() || !slot.sampling.logit_bias.empty() || bans;
  AddAdjust(row, adjusts, bans, lists);
  AddDraw(row, adjusts, index, place, lists);
  lists.wanted.host.push_back({WantsLogprob(row) ? row.output_row % kLogitsTile : -1, -1 - index, row.top_n});
}

void SamplingPlanner::AddAdjust(const SampleRow& row, bool adjusts, bool bans, SamplingLists& lists) const {
  const Slot& slot = slots_[row.slot];
  const SamplingParams& sampling = slot.sampling;
  const size_t first_bias = lists.biases.host.size(), first_ban = lists.bans.host.size();
  for (const auto& [id, bias] : sampling.logit_bias) {
    if (PlaceOf(id) >= 0) lists.biases.host.push_back({PlaceOf(id), bias});
  }
  for (const int32_t id : slot.stop_ids) {
    if (bans && PlaceOf(id) >= 0) lists.bans.host.push_back(PlaceOf(id));
  }
  lists.adjusts.host.push_back({.logits_row = adjusts ? row.output_row % kLogitsTile : -1,
                                .slot = sampling.NeedsHistory() ? row.slot : -1,
                                .repetition_penalty = sampling.repetition_penalty,
                                .frequency_penalty = sampling.frequency_penalty,
                                .presence_penalty = sampling.presence_penalty,
                                .bias_begin = static_cast<int32_t>(first_bias),
                                .bias_count = static_cast<int32_t>(lists.biases.host.size() - first_bias),
                                .ban_begin = static_cast<int32_t>(first_ban),
                                .ban_count = static_cast<int32_t>(lists.bans.host.size() - first_ban)});
}

// Where the sample is drawn, and what is brought to rank 0 for it.
void SamplingPlanner::AddDraw(const SampleRow& row, bool adjusts, int index, int place,
                              SamplingLists& lists) const {
  const SamplingParams& sampling = slots_[row.slot].sampling;
  const kernels::DrawRow draw{.logits_row = row.output_row % kLogitsTile,
                              .temperature = sampling.temperature,
                              .top_k = sampling.top_k,
                              .top_p = sampling.top_p,
                              .min_p = sampling.min_p,
                              .seed_low = static_cast<uint32_t>(sampling.seed),
                              .seed_high = static_cast<uint32_t>(sampling.seed >> 32),
                              .sample_index = static_cast<uint32_t>(row.sample_index),
                              .output_position = static_cast<uint32_t>(row.output_position),
                              .is_adjusted = adjusts ? 1 : 0};
  kernels::DrawRow nothing = draw;
  nothing.logits_row = -1;
  const bool whole = !several() || !HasCandidates(draw, vocab_);
  lists.whole_draws.host.push_back(whole ? draw : nothing);
  if (!several()) return;
  lists.part_draws.host.push_back(whole ? nothing : draw);
  if (WantsLogprob(row) || (whole && !adjusts)) lists.raw_rows.keys.push_back(row.output_row);
  if (whole && adjusts) {
    lists.adjusted_rows.keys.push_back(index);
    lists.adjusted_rows.rows.host.push_back(place);
  }
}

// Behind all samples: the rows that they and the scores want as they are, each once.
void SamplingPlanner::AddRawRows(const StepPlan& plan, SamplingLists& lists) {
  std::vector<int32_t>& keys = lists.raw_rows.keys;
  for (const ScoreRow& row : plan.scores) keys.push_back(row.output_row);
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  for (const int32_t output_row : keys) lists.raw_rows.rows.host.push_back(output_row % kLogitsTile);
}

}  // namespace yoio
