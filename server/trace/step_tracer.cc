#include "server/trace/step_tracer.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "server/trace/step_spans.h"

namespace yoio {
namespace {

constexpr Duration kPeriod = std::chrono::milliseconds(250);
// What ranks tell of a step can come a little later than its result.
constexpr Duration kSettled = std::chrono::milliseconds(100);

// Neighbours come out unlike each other (the finalizer of SplitMix64).
uint64_t Scramble(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

}  // namespace

StepTracer::StepTracer(Tracer& tracer, const FlightRecorder& recorder, double ratio)
    : tracer_(tracer), maker_(tracer), recorder_(recorder), ratio_(ratio), thread_([this] { Run(); }) {}

StepTracer::~StepTracer() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    stopped_.NotifyOne();
  }
  thread_.join();
}

void StepTracer::Run() {
  while (true) {
    {
      MutexLock lock(mutex_);
      const TimePoint next_look = Clock::now() + kPeriod;
      while (!stopping_ && Clock::now() < next_look) stopped_.WaitUntil(mutex_, next_look);
      if (stopping_) break;
    }
    Look(Clock::now() - kSettled);
  }
  Look(TimePoint::max());
}

void StepTracer::Look(TimePoint end) {
  const int64_t last = recorder_.last_step();
  next_ = std::max(next_, last - FlightRecorder::kSteps + 1);  // what came before is forgotten
  for (; next_ <= last; ++next_) {
    if (!Chosen(next_)) continue;
    const std::vector<StepRecord> found = recorder_.Steps(next_, next_);
    if (found.empty()) continue;
    const StepRecord& step = found.front();
    if (!step.ended || *step.ended > end) return;
    Export(step);
  }
}

void StepTracer::Export(const StepRecord& step) {
  std::vector<TraceId> sampled;
  for (const StepMember& member : step.members) {
    const std::optional<RequestRecord> request = recorder_.Request(member.request);
    if (request && request->trace.sampled) sampled.push_back(request->trace);
  }
  if (sampled.empty()) return;
  TraceId id = tracer_.StartTrace();
  id.sampled = true;
  tracer_.Export(StepSpans(step, id, sampled, maker_));
}

bool StepTracer::Chosen(int64_t step) const {
  return static_cast<double>(Scramble(static_cast<uint64_t>(step)) >> 11) * 0x1p-53 < ratio_;
}

}  // namespace yoio
