#include "engine/sampler.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "engine/model/activations.h"
#include "kernels/logit_math.h"

namespace yoio {
namespace {

using kernels::TokenLogprob;

// Floats of a row of log-probabilities, and the least room for what a step is told beside its fixed parts:
// biases, bans and histories.
constexpr int kRowLogprobs = 1 + kMaxTopLogprobs;
constexpr int64_t kLeastLists = int64_t{64} << 10;

struct Sizes {
  Sizes(const Shard& shard, int64_t vocab, int64_t max_sequences, int64_t max_output_rows) {
    const bool first = shard.rank == 0, several = shard.world > 1;
    const int64_t draws = std::min<int64_t>(max_sequences, kLogitsTile);
    const int64_t tile = std::min<int64_t>(max_output_rows, kLogitsTile);
    const int64_t rows = max_sequences + max_output_rows;  // of samples and scores
    history = max_sequences * shard.vocab * sizeof(uint32_t);
    adjusted = draws * shard.vocab_stride * sizeof(float);
    logprobs = first ? rows * kRowLogprobs * sizeof(TokenLogprob) : 0;
    input = max_sequences * (sizeof(kernels::DrawRow) + sizeof(kernels::AdjustRow)) +
            rows * sizeof(kernels::LogprobRow) + kLeastLists;
    if (!several) return;
    input += max_sequences * sizeof(kernels::DrawRow) + (rows + max_sequences) * sizeof(int32_t);
    candidates = draws * sizeof(kernels::Candidate);
    all_candidates = shard.world * candidates;
    collected_rows = static_cast<int>(std::max(draws, tile));
    collector = RowCollector::Bytes(shard.world, shard.vocab_stride, collected_rows);
    whole_logits = first ? tile * vocab * sizeof(float) : 0;
    whole_adjusted = first ? draws * vocab * sizeof(float) : 0;
  }

  int64_t history, adjusted, logprobs, input;
  int64_t candidates = 0, all_candidates = 0, collector = 0, whole_logits = 0, whole_adjusted = 0;
  int collected_rows = 0;
};

Sizes SizesOf(const Sampler::Parts& parts) {
  return {parts.shard, parts.vocab, parts.max_sequences, parts.max_output_rows};
}

bool IsDrawn(const kernels::DrawRow& row) { return row.logits_row >= 0; }
bool IsAdjusted(const kernels::AdjustRow& row) { return row.logits_row >= 0; }
bool HasHistory(const kernels::AdjustRow& row) { return row.slot >= 0; }
bool IsWanted(const kernels::LogprobRow& row) { return row.logits_row >= 0; }
bool WantsLogprob(const SampleRow& row) { return row.logprob || row.top_n > 0; }

// Whether the best of the best tokens of all parts of the vocabulary is what is drawn.
bool HasCandidates(const kernels::DrawRow& row, int vocab) {
  if (row.temperature == 0.0f) return true;
  return (row.top_k == 0 || row.top_k >= vocab) && row.top_p == 1.0f && row.min_p == 0.0f;
}

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

int64_t Sampler::Bytes(const Shard& shard, int vocab, int max_sequences, int max_output_rows) {
  const Sizes sizes(shard, vocab, max_sequences, max_output_rows);
  return sizes.history + sizes.adjusted + sizes.logprobs + sizes.input + sizes.candidates +
         sizes.all_candidates + sizes.collector + sizes.whole_logits + sizes.whole_adjusted;
}

Sampler::Sampler(const Parts& parts)
    : parts_(parts),
      whole_stride_(parts.shard.world > 1 ? parts.vocab : parts.shard.vocab_stride),
      slots_(parts.max_sequences),
      words_(parts.shard.vocab) {
  YOIO_CHECK_GE(parts.vocab, 1);
}

absl::StatusOr<std::unique_ptr<Sampler>> Sampler::Create(const Parts& parts) {
  auto sampler = std::unique_ptr<Sampler>(new Sampler(parts));
  kernels::Backend& backend = *parts.backend;
  const Sizes sizes = SizesOf(parts);
  YOIO_ASSIGN_OR_RETURN(sampler->history_, backend.Allocate(sizes.history));
  YOIO_ASSIGN_OR_RETURN(sampler->adjusted_, backend.Allocate(sizes.adjusted));
  YOIO_ASSIGN_OR_RETURN(sampler->logprobs_, backend.Allocate(sizes.logprobs));
  YOIO_ASSIGN_OR_RETURN(sampler->input_, backend.Allocate(sizes.input));
  if (!sampler->several()) return sampler;
  YOIO_ASSIGN_OR_RETURN(sampler->candidates_, backend.Allocate(sizes.candidates));
  YOIO_ASSIGN_OR_RETURN(sampler->all_candidates_, backend.Allocate(sizes.all_candidates));
  YOIO_ASSIGN_OR_RETURN(sampler->whole_logits_, backend.Allocate(sizes.whole_logits));
  YOIO_ASSIGN_OR_RETURN(sampler->whole_adjusted_, backend.Allocate(sizes.whole_adjusted));
  YOIO_ASSIGN_OR_RETURN(sampler->collector_, RowCollector::Create({.backend = parts.backend,
                                                                   .stream = parts.stream,
                                                                   .comm = parts.comm,
                                                                   .part_width = parts.shard.vocab_stride,
                                                                   .width = parts.vocab,
                                                                   .max_rows = sizes.collected_rows}));
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
  whole_draws_.host.clear();
  part_draws_.host.clear();
  adjusts_.host.clear();
  wanted_.host.clear();
  biases_.host.clear();
  bans_.host.clear();
  updates_.host.clear();
  for (RowList* list : {&raw_rows_, &adjusted_rows_}) {
    list->keys.clear();
    list->rows.host.clear();
  }
  resets_.clear();
  for (const int32_t slot : plan.released_slots) slots_[slot] = {};
  for (const SlotAdmission& admission : plan.admitted) Admit(admission);
  for (size_t i = 0; i < plan.samples.size(); ++i) PlanSample(plan.samples[i], static_cast<int>(i));
  for (const ScoreRow& row : plan.scores) {
    wanted_.host.push_back({row.output_row % kLogitsTile, row.target, row.top_n});
  }
  if (several()) PlanRawRows();
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
  const auto for_ids = [&](const std::vector<int32_t>& ids, const auto& visit) {
    for (const int32_t id : ids) {
      const int32_t place = id - parts_.shard.vocab_begin;
      if (place >= 0 && place < parts_.shard.vocab) visit(place);
    }
  };
  for_ids(admission.prompt_ids, [&](int32_t place) { words_[place] |= kernels::kSeenBit; });
  for_ids(admission.output_ids, [&](int32_t place) { words_[place] = kernels::Recorded(words_[place]); });
  const size_t begin = updates_.host.size();
  for (const auto* ids : {&admission.prompt_ids, &admission.output_ids}) {
    for_ids(*ids, [&](int32_t place) {
      const uint32_t word = std::exchange(words_[place], 0);
      if (word != 0) updates_.host.push_back({place, static_cast<int32_t>(word)});
    });
  }
  resets_.push_back({admission.slot, begin, updates_.host.size() - begin});
}

void Sampler::PlanSample(const SampleRow& row, int index) {
  const Slot& slot = slots_[row.slot];
  const SamplingParams& sampling = slot.sampling;
  const int32_t logits_row = row.output_row % kLogitsTile;
  const bool bans = row.output_position < slot.min_tokens && !slot.stop_ids.empty();
  const bool adjusts = sampling.NeedsHistory() || !sampling.logit_bias.empty() || bans;
  const size_t first_bias = biases_.host.size(), first_ban = bans_.host.size();
  const auto place_of = [&](int32_t id) { return id - parts_.shard.vocab_begin; };
  const auto is_ours = [&](int32_t id) { return place_of(id) >= 0 && place_of(id) < parts_.shard.vocab; };
  for (const auto& [id, bias] : sampling.logit_bias) {
    if (is_ours(id)) biases_.host.push_back({place_of(id), bias});
  }
  for (const int32_t id : slot.stop_ids) {
    if (bans && is_ours(id)) bans_.host.push_back(place_of(id));
  }
  adjusts_.host.push_back({.logits_row = adjusts ? logits_row : -1,
                           .slot = sampling.NeedsHistory() ? row.slot : -1,
                           .repetition_penalty = sampling.repetition_penalty,
                           .frequency_penalty = sampling.frequency_penalty,
                           .presence_penalty = sampling.presence_penalty,
                           .bias_begin = static_cast<int32_t>(first_bias),
                           .bias_count = static_cast<int32_t>(biases_.host.size() - first_bias),
                           .ban_begin = static_cast<int32_t>(first_ban),
                           .ban_count = static_cast<int32_t>(bans_.host.size() - first_ban)});
  PlanDraw(row, index,
           {.logits_row = logits_row,
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

// Where the sample is drawn, and what of it is collected for that.
void Sampler::PlanDraw(const SampleRow& row, int index, const kernels::DrawRow& draw) {
  kernels::DrawRow nothing = draw;
  nothing.logits_row = -1;
  const bool whole = !several() || !HasCandidates(draw, parts_.vocab);
  whole_draws_.host.push_back(whole ? draw : nothing);
  if (!several()) return;
  part_draws_.host.push_back(whole ? nothing : draw);
  if (WantsLogprob(row) || (whole && draw.is_adjusted == 0)) raw_rows_.keys.push_back(row.output_row);
  if (!whole || draw.is_adjusted == 0) return;
  const int first_row = row.output_row - draw.logits_row;
  const int first_sample = RangeOf(plan_->samples, first_row, kLogitsTile).first;
  adjusted_rows_.keys.push_back(index);
  adjusted_rows_.rows.host.push_back((index - first_sample) % kLogitsTile);  // its place in a call of Draw
}

// Behind all samples: the rows that they and the scores want as they are, each once.
void Sampler::PlanRawRows() {
  std::vector<int32_t>& keys = raw_rows_.keys;
  for (const ScoreRow& row : plan_->scores) keys.push_back(row.output_row);
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  for (const int32_t output_row : keys) raw_rows_.rows.host.push_back(output_row % kLogitsTile);
}

// All lists lie one behind the other, and go in one copy.
absl::Status Sampler::Upload(Step& step) {
  const auto for_lists = [&](const auto& visit) {
    visit(whole_draws_);
    visit(part_draws_);
    visit(adjusts_);
    visit(wanted_);
    visit(biases_);
    visit(bans_);
    visit(updates_);
    visit(raw_rows_.rows);
    visit(adjusted_rows_.rows);
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
    uint32_t* history = history_.As<uint32_t>() + static_cast<int64_t>(reset.slot) * parts_.shard.vocab;
    parts_.backend->Fill(history, 0, parts_.shard.vocab * sizeof(uint32_t), *parts_.stream);
    if (reset.count == 0) continue;
    parts_.backend->UpdateWords({.updates = updates_.device + reset.begin,
                                 .num_updates = static_cast<int>(reset.count),
                                 .words = reinterpret_cast<int32_t*>(history)},
                                *parts_.stream);
  }
}

absl::Status Sampler::Read(int first_row, int num_rows, const float* logits, int32_t* ids) {
  const float* whole = logits;
  if (several()) {
    YOIO_RETURN_IF_ERROR(Collect(raw_rows_, first_row, first_row + num_rows, logits, whole_logits_));
    whole = whole_logits_.As<float>();
  }
  const auto [begin, end] = RangeOf(plan_->samples, first_row, num_rows);
  // A row of logits may be drawn from several times: by the choices of one request, at their first token.
  for (int i = begin; i < end; i += kLogitsTile) {
    YOIO_RETURN_IF_ERROR(Draw(i, std::min(i + kLogitsTile, end), logits, whole, ids));
  }
  if (parts_.shard.rank != 0) return absl::OkStatus();
  ReadLogprobs(begin, end, whole, ids);
  const int samples = static_cast<int>(plan_->samples.size());
  const auto [score_begin, score_end] = RangeOf(plan_->scores, first_row, num_rows);
  ReadLogprobs(samples + score_begin, samples + score_end, whole, ids);
  return absl::OkStatus();
}

// Those rows of the list whose keys lie in [begin, end), to their own places in `whole`.
absl::Status Sampler::Collect(const RowList& list, int begin, int end, const float* mine,
                              const kernels::Buffer& whole) {
  const auto first = std::lower_bound(list.keys.begin(), list.keys.end(), begin);
  const auto last = std::lower_bound(first, list.keys.end(), end);
  if (first == last) return absl::OkStatus();
  return collector_->Collect(mine, list.rows.device + (first - list.keys.begin()),
                             static_cast<int>(last - first), whole.As<float>());
}

// At most kLogitsTile samples, of this rank's part of the logits and of whole rows.
absl::Status Sampler::Draw(int begin, int end, const float* logits, const float* whole, int32_t* ids) {
  Adjust(begin, end, logits);
  const float* adjusted = adjusted_.As<float>();
  if (several()) {
    YOIO_RETURN_IF_ERROR(DrawFromParts(begin, end, logits, ids));
    YOIO_RETURN_IF_ERROR(Collect(adjusted_rows_, begin, end, adjusted, whole_adjusted_));
    adjusted = whole_adjusted_.As<float>();
  }
  if (parts_.shard.rank == 0) DrawFromWhole(begin, end, whole, adjusted, ids);
  return absl::OkStatus();
}

void Sampler::Adjust(int begin, int end, const float* logits) {
  const auto first = adjusts_.host.begin();
  if (std::none_of(first + begin, first + end, IsAdjusted)) return;
  parts_.backend->AdjustLogits({.logits = logits,
                                .logits_stride = parts_.shard.vocab_stride,
                                .vocab = parts_.shard.vocab,
                                .rows = adjusts_.device + begin,
                                .num_rows = end - begin,
                                .biases = biases_.device,
                                .bans = bans_.device,
                                .history = history_.As<uint32_t>(),
                                .out = adjusted_.As<float>()},
                               *parts_.stream);
}

absl::Status Sampler::DrawFromParts(int begin, int end, const float* logits, int32_t* ids) {
  const auto first = part_draws_.host.begin();
  if (std::none_of(first + begin, first + end, IsDrawn)) return absl::OkStatus();
  parts_.backend->Draw({.logits = logits,
                        .logits_stride = parts_.shard.vocab_stride,
                        .vocab = parts_.shard.vocab,
                        .rows = part_draws_.device + begin,
                        .num_rows = end - begin,
                        .ids = nullptr,
                        .adjusted = adjusted_.As<float>(),
                        .first_id = parts_.shard.vocab_begin,
                        .candidates = candidates_.As<kernels::Candidate>()},
                       *parts_.stream);
  const size_t bytes = (end - begin) * sizeof(kernels::Candidate);
  YOIO_RETURN_IF_ERROR(parts_.comm->AllGather({candidates_.As<std::byte>(), bytes},
                                              {all_candidates_.As<std::byte>(), parts_.shard.world * bytes},
                                              *parts_.stream));
  parts_.backend->Pick({.candidates = all_candidates_.As<kernels::Candidate>(),
                        .num_parts = parts_.shard.world,
                        .rows = part_draws_.device + begin,
                        .num_rows = end - begin,
                        .ids = ids + begin},
                       *parts_.stream);
  return absl::OkStatus();
}

void Sampler::DrawFromWhole(int begin, int end, const float* logits, const float* adjusted, int32_t* ids) {
  const auto first = whole_draws_.host.begin();
  if (std::none_of(first + begin, first + end, IsDrawn)) return;
  parts_.backend->Draw({.logits = logits,
                        .logits_stride = whole_stride_,
                        .vocab = parts_.vocab,
                        .rows = whole_draws_.device + begin,
                        .num_rows = end - begin,
                        .ids = ids + begin,
                        .adjusted = adjusted},
                       *parts_.stream);
}

void Sampler::ReadLogprobs(int begin, int end, const float* logits, const int32_t* drawn) {
  const auto first = wanted_.host.begin();
  if (std::none_of(first + begin, first + end, IsWanted)) return;
  parts_.backend->Logprobs({.logits = logits,
                            .logits_stride = whole_stride_,
                            .vocab = parts_.vocab,
                            .rows = wanted_.device + begin,
                            .num_rows = end - begin,
                            .drawn = drawn,
                            .max_top = kMaxTopLogprobs,
                            .out = logprobs_.As<TokenLogprob>() + begin * kRowLogprobs},
                           *parts_.stream);
}

absl::Status Sampler::End(Step& step, int32_t* ids) {
  const size_t samples = plan_->samples.size();
  plan_ = nullptr;
  if (several() && std::any_of(whole_draws_.host.begin(), whole_draws_.host.end(), IsDrawn)) {
    const std::span<int32_t> drawn(ids, samples);
    YOIO_RETURN_IF_ERROR(parts_.comm->Broadcast(std::as_writable_bytes(drawn), /*root=*/0, *parts_.stream));
  }
  if (std::any_of(adjusts_.host.begin(), adjusts_.host.end(), HasHistory)) {
    parts_.backend->RecordTokens({.ids = ids,
                                  .rows = adjusts_.device,
                                  .num_rows = static_cast<int>(samples),
                                  .vocab = parts_.shard.vocab,
                                  .history = history_.As<uint32_t>(),
                                  .first_id = parts_.shard.vocab_begin},
                                 *parts_.stream);
  }
  if (parts_.shard.rank != 0) return absl::OkStatus();
  const auto begin = wanted_.host.begin(), end = wanted_.host.end();
  const auto first = std::find_if(begin, end, IsWanted);
  const size_t offset = (first - begin) * kRowLogprobs;
  parts_.backend->CopyToHost(step.logprobs.As<TokenLogprob>() + offset, logprobs_.As<TokenLogprob>() + offset,
                             (end - first) * kRowLogprobs * sizeof(TokenLogprob), *parts_.stream);
  return absl::OkStatus();
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
