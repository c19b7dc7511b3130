#include "server/admin/profile.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "base/status.h"
#include "server/convert.h"
#include "server/step_window.h"
#include "server/timeline.h"

namespace yoio {
namespace {

constexpr Duration kDuration = std::chrono::seconds(5);  // unless the request says
constexpr Duration kMaxDuration = std::chrono::seconds(60);
constexpr Duration kPause = std::chrono::milliseconds(20);
constexpr size_t kChunkBytes = size_t{512} << 10;

class ProfileAnswer final : public AnswerSource<v1::ProfileResponse> {
 public:
  ProfileAnswer(const FlightRecorder& recorder, int max_steps, Duration duration)
      : recorder_(recorder), window_(recorder, max_steps, Clock::now() + duration) {}

  AnswerPart<v1::ProfileResponse> Next() override {
    if (!profile_) {
      if (!window_.closed()) return AskAgainAfter{kPause};
      profile_ = RenderTimeline(window_.Take(), recorder_);
    }
    if (sent_ == profile_->size()) return absl::OkStatus();
    v1::ProfileResponse response;
    response.set_chunk(profile_->substr(sent_, kChunkBytes));
    sent_ += response.chunk().size();
    return response;
  }

 private:
  const FlightRecorder& recorder_;
  const StepWindow window_;
  std::optional<std::string> profile_;
  size_t sent_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<AnswerSource<v1::ProfileResponse>>> AnswerProfile(
    const Engine& engine, const v1::ProfileRequest& request) {
  if (engine.recorder() == nullptr) {
    return absl::UnimplementedError("Profile: this engine has no flight recorder");
  }
  Duration duration = kDuration;
  if (request.has_duration()) {
    YOIO_ASSIGN_OR_RETURN(duration, PositiveDuration(request.duration(), "duration"));
    if (duration > kMaxDuration) return absl::InvalidArgumentError("duration: expected at most 60 s");
  }
  if (request.has_steps() && (request.steps() < 1 || request.steps() > FlightRecorder::kSteps)) {
    return absl::InvalidArgumentError("steps: expected 1 to 4096");
  }
  const int max_steps = request.has_steps() ? request.steps() : std::numeric_limits<int>::max();
  return std::make_unique<ProfileAnswer>(*engine.recorder(), max_steps, duration);
}

}  // namespace yoio
