// What the flight recorder holds of a step and of a request: plain data of fixed size, copied under a lock.
#ifndef YOIO_ENGINE_FLIGHT_SLOTS_H_
#define YOIO_ENGINE_FLIGHT_SLOTS_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>

#include "absl/status/status.h"
#include "base/clock.h"
#include "engine/event.h"
#include "engine/flight_recorder.h"
#include "engine/step_times.h"
#include "engine/trace_id.h"

namespace yoio {

// A text in fixed memory; what is too long is cut between two characters.
template <size_t kBytes>
class FixedText {
 public:
  FixedText& operator=(std::string_view text) {
    size_t size = std::min(text.size(), kBytes);
    if (size < text.size()) {
      while (size > 0 && (text[size] & 0xC0) == 0x80) --size;  // inside a character of UTF-8
    }
    std::copy_n(text.begin(), size, bytes_.begin());
    size_ = static_cast<uint8_t>(size);
    return *this;
  }
  std::string_view view() const { return {bytes_.data(), size_}; }

 private:
  static_assert(kBytes <= std::numeric_limits<uint8_t>::max());
  uint8_t size_ = 0;
  std::array<char, kBytes> bytes_{};
};

// StepTimes in units of 100 ns, up to some minutes a phase.
class PackedTimes {
 public:
  PackedTimes() = default;
  explicit PackedTimes(const StepTimes& times)
      : comm_wait_(Pack(times.comm_wait, (uint32_t{1} << 31) - 1)), recorded_(times.recorded) {
    for (int phase = 0; phase < kNumStepPhases; ++phase) {
      phases_[phase] = Pack(times.phases[phase], std::numeric_limits<uint32_t>::max());
    }
  }

  StepTimes Unpack() const {
    StepTimes times{.comm_wait = comm_wait_ * kUnit, .recorded = recorded_ != 0};
    for (int phase = 0; phase < kNumStepPhases; ++phase) {
      times.phases[phase] = phases_[phase] * kUnit;
      times.total += times.phases[phase];
    }
    return times;
  }

 private:
  static constexpr Duration kUnit = std::chrono::nanoseconds(100);

  static uint32_t Pack(Duration duration, uint32_t most) {
    const int64_t units = (duration + kUnit / 2) / kUnit;
    return static_cast<uint32_t>(std::clamp<int64_t>(units, 0, most));
  }

  std::array<uint32_t, kNumStepPhases> phases_{};
  uint32_t comm_wait_ : 31 = 0;
  uint32_t recorded_ : 1 = 0;
};

// Half of the request's number: those that share it lie too far apart to be taken for each other.
struct PackedMember {
  uint32_t request;
  int32_t tokens;
};

struct StepSlot {
  StepFacts facts{.step = -1};
  TimePoint ended{};  // zero while it is under way
  Duration took{};
  uint64_t first_member = 0;  // counted from the start
  int64_t num_members = 0;

  bool under_way() const { return ended == TimePoint{}; }
};

struct RequestSlot {
  static constexpr size_t kNameBytes = 128;   // of ids as admission bounds them, and of tenants
  static constexpr size_t kReasonBytes = 32;  // of those in engine/errors.h

  RequestNumber number = 0;
  int64_t first_step = -1, last_step = -1;
  TimePoint arrival{};
  TimePoint ended{};  // zero while it lives
  bool closed = false;
  absl::StatusCode code{};  // as all below, once it is closed or has ended
  Usage usage;
  Timing timing;
  FixedText<kReasonBytes> reason;
  FixedText<kNameBytes> id;
  FixedText<kNameBytes> tenant;
  TraceId trace;

  bool lives() const { return ended == TimePoint{}; }

  void SetOutcome(absl::StatusCode its_code, std::string_view its_reason, const Usage& its_usage,
                  const Timing& its_timing) {
    code = its_code;
    reason = its_reason;
    usage = its_usage;
    timing = its_timing;
  }

  // How long it has taken, as far as is known.
  Duration Age(TimePoint now) const {
    if (closed) return timing.total;
    return (lives() ? now : ended) - arrival;
  }

  RequestRecord Unpack() const {
    RequestRecord record;
    record.number = number;
    record.id = id.view();
    record.tenant = tenant.view();
    record.trace = trace;
    record.arrival = arrival;
    record.reason = reason.view();
    record.usage = usage;
    record.timing = timing;
    record.first_step = first_step;
    record.last_step = last_step;
    if (!lives()) record.ended = ended;
    if (closed || !lives()) record.code = code;
    return record;
  }
};

static_assert(std::is_trivially_copyable_v<StepSlot> && std::is_trivially_copyable_v<RequestSlot>);

}  // namespace yoio

#endif  // YOIO_ENGINE_FLIGHT_SLOTS_H_
