#include "engine/sampler.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "engine/model/activations.h"

namespace yoio {
namespace {

using kernels::TokenLogprob;

// Floats of a row of log-probabilities, and the least room for what a step is told beside its fixed parts:
// biases, bans and histories.
constexpr int kRowLogprobs = 1 + kMaxTopLogprobs;
constexpr int64_t kLeastLists = int64_t{64} << 10;

struct Sizes {
  Sizes(int64_t vocab, int64_t max_sequences, int64_t max_output_rows)
      : history(max_sequences * vocab * sizeof(uint32_t)),
        adjusted(std::min<int64_t>(max_sequences, kLogitsTile) * vocab * sizeof(float)),
        logprobs((max_sequences + max_output_rows) * kRowLogprobs * sizeof(TokenLogprob)),
        input(max_sequences * (sizeof(kernels::DrawRow) + sizeof(kernels::AdjustRow)) +
              (max_sequences + max_output_rows) * sizeof(kernels::LogprobRow) + kLeastLists) {}

  int64_t history, adjusted, logprobs, input;
};

Sizes SizesOf(const Sampler::Parts& parts) {
  return {parts.vocab, parts.max_sequences, parts.max_output_rows};
}

bool IsAdjusted(const kernels::AdjustRow& row) { return row.logits_row >= 0; }
bool HasHistory(const kernels::AdjustRow& row) { return row.slot >= 0; }
bool IsWanted(const kernels::LogprobRow& row) { return row.logits_row >= 0; }
bool WantsLogprob(const SampleRow& row) { return row.logprob || row.top_n > 0; }

TokenRecord RecordOf(const TokenLogprob* row, int top_n) {
  TokenRecord record{row->id, row->logprob, {}};
  for (int i = 1; i <= top_n && row[i].id >= 0; ++i) record.top.push_back({row[i].id, row[i].logprob});
  return record;
}

// The samples or scores of the output rows from `first_row` on: they name theirs in ascending order.
template <typename Row>
std::pair<int, int> RangeOf(const std::vector<Row>& rows, int first_row, int num_rows) {
  const auto before = [](const Row& row, int output_row) { return row.output_row < output_row; };
  const auto begin = std::lower_bound(rows.begin(), rows.end(), first_row, before);
  const auto end = std::lower_bound(begin, rows.end(), first_row + num_rows, before);
  return {begin - rows.begin(), end - rows.begin()};
}

}  // namespace

int64_t Sampler::Bytes(int vocab, int max_sequences, int max_output_rows) {
  const Sizes sizes(vocab, max_sequences, max_output_rows);
  return sizes.history + sizes.adjusted + sizes.logprobs + sizes.input;
}

Sampler::Sampler(const Parts& parts) : parts_(parts), slots_(parts.max_sequences), words_(parts.vocab) {
  YOIO_CHECK_GE(parts.vocab, 1);
}

absl::StatusOr<std::unique_ptr<Sampler>> Sampler::Create(const Parts& parts) {
  auto sampler = std::unique_ptr<Sampler>(new Sampler(parts));
  const Sizes sizes = SizesOf(parts);
  YOIO_ASSIGN_OR_RETURN(sampler->history_, parts.backend->Allocate(sizes.history));
  YOIO_ASSIGN_OR_RETURN(sampler->adjusted_, parts.backend->Allocate(sizes.adjusted));
  YOIO_ASSIGN_OR_RETURN(sampler->logprobs_, parts.backend->Allocate(sizes.logprobs));
  YOIO_ASSIGN_OR_RETURN(sampler->input_, parts.backend->Allocate(sizes.input));
  return sampler;
}

absl::StatusOr<Sampler::Step> Sampler::NewStep() {
  Step step;
  const Sizes sizes = SizesOf(parts_);
  YOIO_ASSIGN_OR_RETURN(step.input, parts_.backend->AllocateHost(sizes.input));
  YOIO_ASSIGN_OR_RETURN(step.logprobs, parts_.backend->AllocateHost(sizes.logprobs));
  return step;
}

absl::Status Sampler::Begin(const StepPlan& plan, Step& step) {
  plan_ = &plan;
  draws_.host.clear();
  adjusts_.host.clear();
  wanted_.host.clear();
  biases_.host.clear();
  bans_.host.clear();
  updates_.host.clear();
  resets_.clear();
  for (const int32_t slot : plan.released_slots) slots_[slot] = {};
  for (const SlotAdmission& admission : plan.admitted) Admit(admission);
  for (size_t i = 0; i < plan.samples.size(); ++i) PlanSample(plan.samples[i], static_cast<int>(i));
  for (const ScoreRow& row : plan.scores) {
    wanted_.host.push_back({row.output_row % kLogitsTile, row.target, row.top_n});
  }
  YOIO_RETURN_IF_ERROR(Upload(step));
  ResetHistories();
  return absl::OkStatus();
}

void Sampler::Admit(const SlotAdmission& admission) {
  YOIO_CHECK(admission.slot >= 0 && admission.slot < parts_.max_sequences)
      << "slot " << admission.slot << " of " << parts_.max_sequences;
  const auto check = [vocab = parts_.vocab](const char* what, int32_t id) {
    YOIO_CHECK(id >= 0 && id < vocab) << what << " " << id << " of a vocabulary of " << vocab;
  };
  for (const int32_t id : admission.stop_ids) check("stop id", id);
  for (const auto& [id, bias] : admission.sampling.logit_bias) check("bias", id);
  for (const int32_t id : admission.prompt_ids) check("prompt id", id);
  for (const int32_t id : admission.output_ids) check("output id", id);
  slots_[admission.slot] = {admission.sampling, admission.stop_ids, admission.min_tokens};
  if (admission.sampling.NeedsHistory()) PlanHistory(admission);
}

void Sampler::PlanHistory(const SlotAdmission& admission) {
  for (const int32_t id : admission.prompt_ids) words_[id] |= kernels::kSeenBit;
  for (const int32_t id : admission.output_ids) words_[id] = (words_[id] | kernels::kSeenBit) + 1;
  const size_t begin = updates_.host.size();
  for (const auto* ids : {&admission.prompt_ids, &admission.output_ids}) {
    for (const int32_t id : *ids) {
      const uint32_t word = std::exchange(words_[id], 0);
      if (word != 0) updates_.host.push_back({id, static_cast<int32_t>(word)});
    }
  }
  resets_.push_back({admission.slot, begin, updates_.host.size() - begin});
}

void Sampler::PlanSample(const SampleRow& row, int index) {
  const Slot& slot = slots_[row.slot];
  const SamplingParams& sampling = slot.sampling;
  const int32_t logits_row = row.output_row % kLogitsTile;
  const bool bans = row.output_position < slot.min_tokens && !slot.stop_ids.empty();
  const bool adjusts = sampling.NeedsHistory() || !sampling.logit_bias.empty() || bans;
  adjusts_.host.push_back({.logits_row = adjusts ? logits_row : -1,
                           .slot = sampling.NeedsHistory() ? row.slot : -1,
                           .repetition_penalty = sampling.repetition_penalty,
                           .frequency_penalty = sampling.frequency_penalty,
                           .presence_penalty = sampling.presence_penalty,
                           .bias_begin = static_cast<int32_t>(biases_.host.size()),
                           .bias_count = static_cast<int32_t>(sampling.logit_bias.size()),
                           .ban_begin = static_cast<int32_t>(bans_.host.size()),
                           .ban_count = bans ? static_cast<int32_t>(slot.stop_ids.size()) : 0});
  for (const auto& [id, bias] : sampling.logit_bias) biases_.host.push_back({id, bias});
  if (bans) bans_.host.insert(bans_.host.end(), slot.stop_ids.begin(), slot.stop_ids.end());
  draws_.host.push_back({.logits_row = logits_row,
                         .temperature = sampling.temperature,
                         .top_k = sampling.top_k,
                         .top_p = sampling.top_p,
                         .min_p = sampling.min_p,
                         .seed_low = static_cast<uint32_t>(sampling.seed),
                         .seed_high = static_cast<uint32_t>(sampling.seed >> 32),
                         .sample_index = static_cast<uint32_t>(row.sample_index),
                         .output_position = static_cast<uint32_t>(row.output_position),
                         .is_adjusted = adjusts ? 1 : 0});
  YOIO_CHECK_LE(row.top_n, kMaxTopLogprobs);
  wanted_.host.push_back({WantsLogprob(row) ? logits_row : -1, -1 - index, row.top_n});
}

// All lists lie one behind the other, and go in one copy.
absl::Status Sampler::Upload(Step& step) {
  const auto for_lists = [&](const auto& visit) {
    visit(draws_);
    visit(adjusts_);
    visit(wanted_);
    visit(biases_);
    visit(bans_);
    visit(updates_);
  };
  size_t bytes = 0;
  for_lists([&](auto& list) { bytes += list.host.size() * sizeof(list.host[0]); });
  if (bytes > step.input.bytes()) {
    YOIO_ASSIGN_OR_RETURN(step.input, parts_.backend->AllocateHost(2 * bytes));
  }
  if (bytes > input_.bytes()) {
    // What is queued still reads the old memory.
    YOIO_RETURN_IF_ERROR(parts_.backend->Synchronize(*parts_.stream));
    YOIO_ASSIGN_OR_RETURN(input_, parts_.backend->Allocate(2 * bytes));
  }
  size_t offset = 0;
  for_lists([&](auto& list) {
    const size_t size = list.host.size() * sizeof(list.host[0]);
    if (size > 0) std::memcpy(step.input.As<char>() + offset, list.host.data(), size);
    list.device = reinterpret_cast<decltype(list.device)>(input_.As<char>() + offset);
    offset += size;
  });
  parts_.backend->CopyToDevice(input_.data(), step.input.data(), bytes, *parts_.stream);
  return absl::OkStatus();
}

void Sampler::ResetHistories() {
  for (const Reset& reset : resets_) {
    uint32_t* history = history_.As<uint32_t>() + static_cast<int64_t>(reset.slot) * parts_.vocab;
    parts_.backend->Fill(history, 0, parts_.vocab * sizeof(uint32_t), *parts_.stream);
    if (reset.count == 0) continue;
    parts_.backend->UpdateWords({.updates = updates_.device + reset.begin,
                                 .num_updates = static_cast<int>(reset.count),
                                 .words = reinterpret_cast<int32_t*>(history)},
                                *parts_.stream);
  }
}

void Sampler::Read(int first_row, int num_rows, const float* logits, int32_t* ids) {
  const auto [begin, end] = RangeOf(plan_->samples, first_row, num_rows);
  // A row of logits may be drawn from several times: by the choices of one request, at their first token.
  for (int i = begin; i < end; i += kLogitsTile) Draw(i, std::min(i + kLogitsTile, end), logits, ids);
  ReadLogprobs(begin, end, logits, ids);
  const int samples = static_cast<int>(plan_->samples.size());
  const auto [score_begin, score_end] = RangeOf(plan_->scores, first_row, num_rows);
  ReadLogprobs(samples + score_begin, samples + score_end, logits, ids);
}

// At most kLogitsTile samples.
void Sampler::Draw(int begin, int end, const float* logits, int32_t* ids) {
  const std::span<const kernels::AdjustRow> adjusts(adjusts_.host.begin() + begin,
                                                    adjusts_.host.begin() + end);
  if (std::any_of(adjusts.begin(), adjusts.end(), IsAdjusted)) {
    parts_.backend->AdjustLogits({.logits = logits,
                                  .logits_stride = parts_.vocab,
                                  .vocab = parts_.vocab,
                                  .rows = adjusts_.device + begin,
                                  .num_rows = end - begin,
                                  .biases = biases_.device,
                                  .bans = bans_.device,
                                  .history = history_.As<uint32_t>(),
                                  .out = adjusted_.As<float>()},
                                 *parts_.stream);
  }
  parts_.backend->Draw({.logits = logits,
                        .logits_stride = parts_.vocab,
                        .vocab = parts_.vocab,
                        .rows = draws_.device + begin,
                        .num_rows = end - begin,
                        .ids = ids + begin,
                        .adjusted = adjusted_.As<float>()},
                       *parts_.stream);
  if (std::any_of(adjusts.begin(), adjusts.end(), HasHistory)) {
    parts_.backend->RecordTokens({.ids = ids + begin,
                                  .rows = adjusts_.device + begin,
                                  .num_rows = end - begin,
                                  .vocab = parts_.vocab,
                                  .history = history_.As<uint32_t>()},
                                 *parts_.stream);
  }
}

void Sampler::ReadLogprobs(int begin, int end, const float* logits, const int32_t* drawn) {
  const auto first = wanted_.host.begin();
  if (std::none_of(first + begin, first + end, IsWanted)) return;
  parts_.backend->Logprobs({.logits = logits,
                            .logits_stride = parts_.vocab,
                            .vocab = parts_.vocab,
                            .rows = wanted_.device + begin,
                            .num_rows = end - begin,
                            .drawn = drawn,
                            .max_top = kMaxTopLogprobs,
                            .out = logprobs_.As<TokenLogprob>() + begin * kRowLogprobs},
                           *parts_.stream);
}

void Sampler::End(Step& step) {
  const auto begin = wanted_.host.begin(), end = wanted_.host.end();
  const auto first = std::find_if(begin, end, IsWanted);
  const size_t offset = (first - begin) * kRowLogprobs;
  parts_.backend->CopyToHost(step.logprobs.As<TokenLogprob>() + offset, logprobs_.As<TokenLogprob>() + offset,
                             (end - first) * kRowLogprobs * sizeof(TokenLogprob), *parts_.stream);
  plan_ = nullptr;
}

StepResult Sampler::Take(const StepPlan& plan, const Step& step, const int32_t* ids) {
  StepResult result{.step = plan.step, .samples = {}, .scores = {}};
  const TokenLogprob* row = step.logprobs.As<TokenLogprob>();
  for (size_t i = 0; i < plan.samples.size(); ++i, row += kRowLogprobs) {
    SampledToken sampled{.record = {.id = std::max(ids[i], 0), .top = {}}, .invalid = ids[i] < 0};
    const SampleRow& sample = plan.samples[i];
    if (WantsLogprob(sample) && !sampled.invalid) sampled.record = RecordOf(row, sample.top_n);
    result.samples.push_back(std::move(sampled));
  }
  for (const ScoreRow& score : plan.scores) {
    result.scores.push_back(RecordOf(row, score.top_n));
    row += kRowLogprobs;
  }
  return result;
}

}  // namespace yoio
