#include "server/memory_report.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace yoio {
namespace {

constexpr int32_t kTokensPerKi = 1024;

// "1.1 GiB"; small sizes in bytes.
std::string Size(int64_t bytes) {
  if (bytes >= 1LL << 30) return absl::StrFormat("%.2f GiB", static_cast<double>(bytes) / (1LL << 30));
  if (bytes >= 1LL << 20) return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1LL << 20));
  return absl::StrCat(bytes, " bytes");
}

void AddLine(std::string& text, const std::string& name, const std::string& value) {
  absl::StrAppendFormat(&text, "%-32s %s\n", name, value);
}

}  // namespace

std::string FormatMemoryPlan(const MemoryPlan& plan) {
  std::string text;
  AddLine(text, "device", plan.device);
  AddLine(text, "ranks", absl::StrCat(plan.ranks));
  AddLine(text, "threads, all ranks together", absl::StrCat(plan.threads));
  AddLine(text, "weights, per rank", Size(plan.weight_bytes));
  AddLine(text, "activations, per rank", Size(plan.activation_bytes));
  AddLine(text, "cache, per rank", Size(plan.cache_bytes));
  AddLine(text, "one cached token, rank 0", Size(plan.bytes_per_cached_token));
  AddLine(text, "one sequence's window, per rank", Size(plan.bytes_per_ring));
  AddLine(text, "host memory to swap to, per rank", Size(plan.swap_bytes));
  AddLine(text, "cache blocks", absl::StrCat(plan.global_blocks));
  AddLine(text, "--max-sequences", absl::StrCat(plan.max_sequences));
  AddLine(text, "snapshots for the prefix cache", absl::StrCat(plan.snapshots));
  for (const int32_t ki : {4, 32, 128}) {
    AddLine(text, absl::StrCat("sequences that fit at ", ki, "K"),
            absl::StrCat(plan.SequencesThatFit(ki * kTokensPerKi)));
  }
  return text;
}

}  // namespace yoio
