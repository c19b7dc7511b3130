#include "engine/registry.h"

namespace yoio {

absl::Status Registry::Add(const std::shared_ptr<LiveRequest>& live) {
  MutexLock lock(mutex_);
  if (!closed_.ok()) return closed_;
  const Request& request = live->request;
  if (!live_.try_emplace(Key(request.tenant, request.id), live).second) {
    return absl::AlreadyExistsError("request_id belongs to a live request; choose another or leave it out");
  }
  return absl::OkStatus();
}

void Registry::Remove(const LiveRequest& live) {
  MutexLock lock(mutex_);
  live_.erase(Key(live.request.tenant, live.request.id));
  if (live_.empty()) emptied_.NotifyAll();
}

std::shared_ptr<LiveRequest> Registry::Find(std::string_view tenant, std::string_view id) const {
  MutexLock lock(mutex_);
  const auto it = live_.find(Key(tenant, id));
  return it == live_.end() ? nullptr : it->second;
}

std::vector<std::shared_ptr<LiveRequest>> Registry::All() const {
  std::vector<std::shared_ptr<LiveRequest>> all;
  MutexLock lock(mutex_);
  all.reserve(live_.size());
  for (const auto& [key, live] : live_) all.push_back(live);
  return all;
}

void Registry::Close(absl::Status status) {
  MutexLock lock(mutex_);
  if (closed_.ok()) closed_ = std::move(status);
}

bool Registry::closed() const {
  MutexLock lock(mutex_);
  return !closed_.ok();
}

bool Registry::WaitUntilEmpty(TimePoint deadline) {
  MutexLock lock(mutex_);
  while (!live_.empty() && Clock::now() < deadline) emptied_.WaitUntil(mutex_, deadline);
  return live_.empty();
}

}  // namespace yoio
