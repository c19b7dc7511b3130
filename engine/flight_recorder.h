// What the engine did lately, always on, in memory that never grows.
#ifndef YOIO_ENGINE_FLIGHT_RECORDER_H_
#define YOIO_ENGINE_FLIGHT_RECORDER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "engine/event.h"
#include "engine/step_times.h"
#include "engine/trace_id.h"

namespace yoio {

// Requests are numbered as they come, from 1 on.
using RequestNumber = uint64_t;

// One request's part of a step.
struct StepMember {
  RequestNumber request = 0;
  int32_t tokens = 0;  // that the step computed for it

  bool operator==(const StepMember&) const = default;
};

// A step as it was planned.
struct StepFacts {
  int64_t step = 0;
  TimePoint begin{};      // when its planning began
  TimePoint submitted{};  // when it had been handed to the ranks; in between the scheduler worked
  int32_t prompt_tokens = 0;
  int32_t generated_tokens = 0;  // tokens of sequences past their prompt
  int32_t output_rows = 0;
  int32_t requests = 0;
  int32_t running = 0;  // requests; as all below once it was planned
  int32_t waiting = 0;
  int32_t free_blocks = 0;
};

struct StepRecord : StepFacts {
  std::optional<TimePoint> ended;  // when its result had come; none while it is under way
  Duration took{};  // from its submission, or the end of the step before it, to its end or to now
  std::vector<StepTimes> ranks;     // by rank; those that have not ended it are all zero
  std::vector<StepMember> members;  // shorter than `requests` when it was too long ago
};

struct RequestRecord {
  RequestNumber number = 0;
  std::string id;
  std::string tenant;
  TraceId trace;
  TimePoint arrival{};
  std::optional<TimePoint> ended;  // in the engine; none while it lives
  std::optional<absl::StatusCode>
      code;            // how its call closed, or else how it ended in the engine; none while it lives
  std::string reason;  // as in ErrorInfo; empty unless it failed
  Usage usage;
  Timing timing;
  int64_t first_step = -1, last_step = -1;  // that it was in; -1: in none
};

// The last kSteps steps and the last kRequests requests, those that live among them, in at most kMaxBytes
// however long they are: names are cut to what admission allows, and the oldest steps lose their members
// first.
//
// Thread-safe. Writers never wait for readers longer than it takes to look at a few hundred records or to
// copy one. Nothing is allocated after construction but by readers, who get copies.
class FlightRecorder {
 public:
  static constexpr int kSteps = 4096;
  static constexpr int kRequests = 4096;
  static constexpr int kMaxRanks = 64;
  static constexpr size_t kMaxBytes = size_t{16} << 20;

  explicit FlightRecorder(int num_ranks);
  ~FlightRecorder();
  FlightRecorder(const FlightRecorder&) = delete;
  FlightRecorder& operator=(const FlightRecorder&) = delete;

  size_t bytes() const;  // that it holds

  // Engine thread. A request joins the queue, is in a step, has ended there.
  RequestNumber Accepted(std::string_view id, std::string_view tenant, const TraceId& trace,
                         TimePoint arrival);
  void Planned(const StepFacts& facts, std::span<const StepMember> members);
  // Steps are planned in the order of their numbers and delivered in it; returns how long this one took.
  Duration Delivered(int64_t step, TimePoint now);
  void Ended(RequestNumber request, const absl::Status& status, const SummaryEvent& summary, TimePoint now);

  // Any thread: a rank has ended a step. Only the first kMaxRanks ranks are remembered.
  void RankEnded(int rank, int64_t step, const StepTimes& times);
  // Any thread: the call of a live or lately ended request is closed. Nothing happens when it is not known.
  // `timing` is what the caller was told.
  void Closed(RequestNumber request, absl::StatusCode code, std::string_view reason, const Usage& usage,
              const Timing& timing);

  // Readers: any thread. Steps by number, requests in the order of their arrival unless it says otherwise.
  std::vector<StepRecord> Steps(int64_t first, int64_t last) const;  // both included
  std::vector<StepRecord> StepsSince(TimePoint begin) const;         // submitted at `begin` or later
  int64_t last_step() const;                                         // planned; -1 before the first
  std::optional<RequestRecord> Request(RequestNumber request) const;
  std::vector<RequestRecord> RequestsById(std::string_view id) const;  // of any tenant
  std::vector<RequestRecord> RequestsSince(TimePoint end) const;       // ended at `end` or later, or alive
  std::vector<RequestRecord> SlowestRequests(int count) const;         // the longest first
  // The steps that `request` was in, as far as they are remembered; with `slowest`, so many, those that took
  // longest first.
  std::vector<StepRecord> StepsOf(RequestNumber request, std::optional<int> slowest = std::nullopt) const;

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_FLIGHT_RECORDER_H_
