#include "client/load/workload.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace yoio {
namespace {

// What the seed is mixed with for prefixes, so that none of them is the prompt of a request.
constexpr uint64_t kPrefixSalt = 0x70726566697865;

bool ParseShare(absl::string_view text, double& share) {
  return absl::SimpleAtod(text, &share) && share >= 0 && share <= 1;
}

// Two ids from each draw: the upper and the lower half, each scaled to the vocabulary.
void FillIds(Random random, uint32_t vocab_size, int32_t* ids, int32_t count) {
  for (int32_t i = 0; i < count; i += 2) {
    const uint64_t draw = random.Next();
    ids[i] = static_cast<int32_t>(((draw >> 32) * vocab_size) >> 32);
    if (i + 1 < count) ids[i + 1] = static_cast<int32_t>(((draw & 0xffffffff) * vocab_size) >> 32);
  }
}

}  // namespace

absl::StatusOr<SharedPrefix> ParseSharedPrefix(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  SharedPrefix prefix;
  if (parts.size() < 2 || parts.size() > 3 || !absl::SimpleAtoi(parts[0], &prefix.tokens) ||
      prefix.tokens < 1 || !ParseShare(parts[1], prefix.share) ||
      (parts.size() == 3 && (!absl::SimpleAtoi(parts[2], &prefix.groups) || prefix.groups < 1))) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected TOKENS:SHARE or TOKENS:SHARE:GROUPS with SHARE from 0 to 1, got ", text));
  }
  return prefix;
}

absl::StatusOr<std::vector<PriorityShare>> ParsePriorities(const std::string& text) {
  std::vector<PriorityShare> priorities;
  double sum = 0;
  for (absl::string_view entry : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(entry, ':');
    PriorityShare share{};
    if (parts[0] == "low") share.priority = v1::PRIORITY_LOW;
    if (parts[0] == "normal") share.priority = v1::PRIORITY_NORMAL;
    if (parts[0] == "high") share.priority = v1::PRIORITY_HIGH;
    if (share.priority == v1::PRIORITY_UNSPECIFIED || parts.size() != 2 ||
        !ParseShare(parts[1], share.share) || (sum += share.share) > 1 + 1e-9) {
      return absl::InvalidArgumentError(absl::StrCat(
          "expected low:SHARE,normal:SHARE,high:SHARE (any of them, at most 1 together), got ", text));
    }
    priorities.push_back(share);
  }
  return priorities;
}

void Workload::DrawLengths(Random& random, RequestPlan& plan) const {
  if (!options_.trace.empty()) {
    const TraceEntry& entry = options_.trace[plan.index % options_.trace.size()];
    plan.prompt_tokens = entry.prompt_tokens;
    plan.output_tokens = entry.output_tokens;
    plan.prefix_tokens = entry.prefix_tokens;
    plan.prefix = entry.prefix;
    return;
  }
  const Lengths::Draw prompt = options_.prompt_lengths.Next(random);
  const Lengths::Draw output = options_.output_lengths.Next(random);
  plan.length_class = options_.prompt_lengths.listed().empty() ? output.length_class : prompt.length_class;
  plan.output_tokens = std::min(output.tokens, options_.max_model_len - 1);
  plan.prompt_tokens = std::min(prompt.tokens, options_.max_model_len - plan.output_tokens);
}

RequestPlan Workload::Plan(int64_t index) const {
  Random random(options_.seed, index);
  RequestPlan plan;
  plan.index = index;
  DrawLengths(random, plan);
  const SharedPrefix& shared = options_.shared_prefix;
  if (shared.tokens > 0 && random.Uniform() < shared.share) {
    plan.prefix_tokens = std::min(shared.tokens, plan.prompt_tokens - 1);
    plan.prefix = random.Between(0, shared.groups - 1);
  }
  double draw = random.Uniform();
  for (const PriorityShare& share : options_.priorities) {
    if (draw >= 0 && draw < share.share) plan.priority = share.priority;
    draw -= share.share;
  }
  draw = random.Uniform();
  for (int i = 1; i < kInjections; ++i) {
    if (draw >= 0 && draw < options_.injections[i]) plan.injection = static_cast<Injection>(i);
    draw -= options_.injections[i];
  }
  plan.moment = random.Uniform();
  return plan;
}

void Workload::FillPrompt(const RequestPlan& plan, google::protobuf::RepeatedField<int32_t>* ids) const {
  ids->Resize(plan.prompt_tokens, 0);
  int32_t* data = ids->mutable_data();
  const uint32_t vocab_size = options_.vocab_size;
  FillIds(Random(options_.seed ^ kPrefixSalt, plan.prefix), vocab_size, data, plan.prefix_tokens);
  FillIds(Random(~options_.seed, plan.index), vocab_size, data + plan.prefix_tokens,
          plan.prompt_tokens - plan.prefix_tokens);
}

std::vector<std::string> Workload::ClassNames() const {
  const bool by_prompt = !options_.prompt_lengths.listed().empty();
  std::vector<std::string> names;
  if (options_.trace.empty()) {
    const Lengths& lengths = by_prompt ? options_.prompt_lengths : options_.output_lengths;
    for (const int32_t tokens : lengths.listed()) {
      names.push_back(absl::StrCat(by_prompt ? "prompt " : "output ", tokens));
    }
  }
  if (names.empty()) names.push_back("all");
  return names;
}

}  // namespace yoio
