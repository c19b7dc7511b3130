// What a run asks for: the requests, one after another.
#ifndef YOIO_CLIENT_LOAD_WORKLOAD_H_
#define YOIO_CLIENT_LOAD_WORKLOAD_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/load/lengths.h"
#include "client/load/trace.h"
#include "yoio/v1/request.pb.h"

namespace yoio {

// What a client does wrong on purpose.
enum class Injection { kNone, kCancel, kExpire, kSlowReader };
inline constexpr int kInjections = 4;

// One request as planned.
struct RequestPlan {
  int64_t index = 0;
  int32_t prompt_tokens = 1, output_tokens = 1;
  int length_class = 0;
  int32_t prefix_tokens = 0;  // of the prompt, shared with others of `prefix`
  int64_t prefix = 0;
  v1::Priority priority = v1::PRIORITY_UNSPECIFIED;  // unspecified: the field stays absent
  Injection injection = Injection::kNone;
  double moment = 0;  // 0 to below 1: when the injection happens
};

// The first tokens of a share of all prompts come from one of `groups` texts.
struct SharedPrefix {
  int32_t tokens = 0;
  double share = 0;
  int32_t groups = 1;
};

// "TOKENS:SHARE" or "TOKENS:SHARE:GROUPS".
absl::StatusOr<SharedPrefix> ParseSharedPrefix(const std::string& text);

// Shares of all requests by priority; what is left over to 1 has none.
struct PriorityShare {
  v1::Priority priority;
  double share;
};

// "high:0.1,low:0.2".
absl::StatusOr<std::vector<PriorityShare>> ParsePriorities(const std::string& text);

struct WorkloadOptions {
  Lengths prompt_lengths, output_lengths;
  Trace trace;  // not empty: lengths and prefixes are those of its entries, over and over
  SharedPrefix shared_prefix;
  std::vector<PriorityShare> priorities;
  std::array<double, kInjections> injections{};  // shares of all requests, by Injection; kNone is unused
  uint64_t seed = 0;
  int32_t vocab_size = 0;
  int32_t max_model_len = 0;  // lengths from a distribution without an end are cut to fit
};

// Says what each request is as a pure function of the seed and its index: two runs with the same options send
// the same requests, however fast the server answers. Immutable; thread-safe.
class Workload {
 public:
  explicit Workload(WorkloadOptions options) : options_(std::move(options)) {}

  RequestPlan Plan(int64_t index) const;

  // Writes the prompt's ids. Memory that `ids` has is used again.
  void FillPrompt(const RequestPlan& plan, google::protobuf::RepeatedField<int32_t>* ids) const;

  // One name for each length class: "prompt 2048". One, "all", without a list of lengths.
  std::vector<std::string> ClassNames() const;

  const WorkloadOptions& options() const { return options_; }

 private:
  void DrawLengths(Random& random, RequestPlan& plan) const;

  const WorkloadOptions options_;
};

}  // namespace yoio

#endif  // YOIO_CLIENT_LOAD_WORKLOAD_H_
