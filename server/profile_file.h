// --profile-steps: the first steps of a server as a timeline in a file.
#ifndef YOIO_SERVER_PROFILE_FILE_H_
#define YOIO_SERVER_PROFILE_FILE_H_

#include <optional>
#include <string>
#include <thread>

#include "base/mutex.h"
#include "engine/flight_recorder.h"
#include "server/log.h"
#include "server/step_window.h"

namespace yoio {

// Writes the first `steps` steps from its construction on, once they have ended, or as many as there were
// when it is destroyed. A thread of its own waits for them. Failures go to the log.
class ProfileFile {
 public:
  // 0 steps or no recorder: does nothing. The others outlive it.
  ProfileFile(const FlightRecorder* recorder, int steps, const std::string& path, const Logger& log);
  ~ProfileFile();
  ProfileFile(const ProfileFile&) = delete;
  ProfileFile& operator=(const ProfileFile&) = delete;

 private:
  void WaitAndWrite(const FlightRecorder& recorder);

  const std::string& path_;
  const Logger& log_;
  std::optional<StepWindow> window_;
  Mutex mutex_;
  CondVar stop_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_PROFILE_FILE_H_
