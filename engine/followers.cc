#include "engine/followers.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"
#include "engine/node.h"

namespace yoio {
namespace {

// How soon the door's thread notices that it is no longer needed.
constexpr Duration kAcceptPoll = std::chrono::milliseconds(50);
// For the first message of whoever has come.
constexpr Duration kHelloTimeout = std::chrono::seconds(10);
// Who may be at the door at once beside the followers.
constexpr size_t kMostStrangers = 16;

absl::Status Named(int node, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat("node ", node, ": ", std::string(status.message())));
}

}  // namespace

Followers::Followers(const FollowersOptions& options)
    : options_(options), nodes_(options.leader.nnodes - 1, nullptr) {
  door_ = std::thread([this] { LetIn(); });
}

Followers::~Followers() {
  absl::Status reason = absl::UnavailableError("the leader has ended");
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    ending_ = true;
    if (!failure_.ok()) reason = absl::UnavailableError(failure_.message());
    changed_.NotifyAll();
  }
  door_.join();
  std::vector<Link*> links;
  {
    MutexLock lock(mutex_);
    for (Link& link : links_) links.push_back(&link);
  }
  for (Link* link : links) link->pipe->Break(reason);
  for (Link* link : links) link->thread.join();
}

// --- The leader's thread ---

absl::StatusOr<std::vector<Hello>> Followers::Gather(TimePoint deadline) {
  MutexLock lock(mutex_);
  YOIO_RETURN_IF_ERROR(Await(deadline, "come", [](const Link* link) { return link != nullptr; }));
  std::vector<Hello> hellos;
  for (const Link* link : nodes_) hellos.push_back(link->hello);
  return hellos;
}

void Followers::Welcome(yoio::Welcome welcome, Events events) {
  absl::Status failure;
  const Events* told;
  {
    MutexLock lock(mutex_);
    events_ = std::make_unique<const Events>(std::move(events));
    told = events_.get();
    failure = failure_;
    for (size_t i = 0; i < nodes_.size(); ++i) {
      YOIO_CHECK(nodes_[i] != nullptr) << "all have been gathered";
      welcome.first_rank = static_cast<int32_t>((i + 1) * nodes_[i]->hello.available_bytes.size());
      nodes_[i]->pipe->Send(SerializeMessage(welcome));
    }
  }
  if (!failure.ok()) told->on_failure(failure);
}

absl::Status Followers::AwaitLoaded(TimePoint deadline) {
  MutexLock lock(mutex_);
  return Await(deadline, "loaded", [](const Link* link) { return link != nullptr && link->loaded; });
}

absl::Status Followers::Await(TimePoint deadline, const char* what, bool (*holds)(const Link*)) {
  while (failure_.ok() && !std::all_of(nodes_.begin(), nodes_.end(), holds)) {
    if (Clock::now() >= deadline) {
      std::string missing;
      for (size_t i = 0; i < nodes_.size(); ++i) {
        if (!holds(nodes_[i])) absl::StrAppend(&missing, missing.empty() ? "" : ", ", i + 1);
      }
      return absl::DeadlineExceededError(
          absl::StrCat("these nodes have not ", what, " within --load-timeout: ", missing));
    }
    changed_.WaitUntil(mutex_, deadline);
  }
  return failure_;
}

void Followers::Send(const StepPlan& plan) {
  const std::string message = SerializeMessage(plan);
  MutexLock lock(mutex_);
  for (Link* node : nodes_) node->pipe->Send(message);
}

void Followers::Break(const absl::Status& status) {
  MutexLock lock(mutex_);
  if (failure_.ok()) failure_ = status;
  const absl::Status reason =
      absl::UnavailableError(absl::StrCat("the group has failed: ", std::string(status.message())));
  for (Link* node : nodes_) {
    if (node != nullptr) node->pipe->Break(reason);
  }
  changed_.NotifyAll();
}

void Followers::SayBye() {
  MutexLock lock(mutex_);
  ending_ = true;
  for (Link* node : nodes_) node->pipe->Send(SerializeMessage(Bye{}));
}

void Followers::AwaitGone(TimePoint deadline) {
  MutexLock lock(mutex_);
  const auto gone = [](const Link* node) { return node->done; };
  while (!std::all_of(nodes_.begin(), nodes_.end(), gone) && Clock::now() < deadline) {
    changed_.WaitUntil(mutex_, deadline);
  }
}

// --- The door's thread ---

void Followers::LetIn() {
  for (;;) {
    absl::StatusOr<std::unique_ptr<Pipe>> pipe = options_.doorway->Accept(Clock::now() + kAcceptPoll);
    MutexLock lock(mutex_);
    if (stopped_) return;
    Reap();
    if (!pipe.ok()) {
      // A door that is broken is not asked again and again.
      if (!absl::IsDeadlineExceeded(pipe.status())) changed_.WaitUntil(mutex_, Clock::now() + kAcceptPoll);
    } else if (links_.size() >= nodes_.size() + kMostStrangers) {
      (*pipe)->Break(absl::ResourceExhaustedError("too many come at once"));
    } else {
      Link& link = links_.emplace_back();
      link.pipe = *std::move(pipe);
      link.thread = std::thread([this, &link] { Hear(link); });
    }
  }
}

// Forgets those who were turned away.
void Followers::Reap() {
  for (auto link = links_.begin(); link != links_.end();) {
    const bool follows = std::find(nodes_.begin(), nodes_.end(), &*link) != nodes_.end();
    if (follows || !link->done) {
      ++link;
      continue;
    }
    link->thread.join();
    link = links_.erase(link);
  }
}

// --- The thread of one link ---

void Followers::Hear(Link& link) {
  absl::Status end = TakeIn(link);
  if (end.ok()) end = Listen(link);
  link.pipe->Break(std::move(end));
  MutexLock lock(mutex_);
  link.done = true;
  changed_.NotifyAll();
}

absl::Status Followers::TakeIn(Link& link) {
  const auto bytes = link.pipe->Receive(Clock::now() + kHelloTimeout);
  if (absl::IsUnavailable(bytes.status()) || absl::IsDeadlineExceeded(bytes.status())) {
    return TurnAway(bytes.status());  // said nothing
  }
  if (!bytes.ok()) {
    return Refuse(absl::Status(bytes.status().code(), absl::StrCat("a follower cannot join: ",
                                                                   std::string(bytes.status().message()))));
  }
  auto message = DeserializeMessage(*bytes);
  if (!message.ok()) return Refuse(message.status());
  Hello* hello = std::get_if<Hello>(&*message);
  if (hello == nullptr) return Refuse(absl::InvalidArgumentError("a follower's first message is no Hello"));
  return GiveItsPlace(link, std::move(*hello));
}

absl::Status Followers::GiveItsPlace(Link& link, Hello hello) {
  const int node = hello.node_rank;
  const absl::Status fits = CheckFits(hello, options_.leader);
  bool taken = false;
  {
    MutexLock lock(mutex_);
    const bool known = node >= 1 && node <= static_cast<int>(nodes_.size());
    taken = known && nodes_[node - 1] != nullptr;
    if (!taken && fits.ok()) {
      link.hello = std::move(hello);
      nodes_[node - 1] = &link;
      changed_.NotifyAll();
    }
  }
  if (taken) {
    return TurnAway(absl::FailedPreconditionError(
        absl::StrCat("a follower with --node-rank ", node, " has come before")));
  }
  return fits.ok() ? fits : Refuse(fits);
}

absl::Status Followers::Listen(Link& link) {
  for (;;) {
    auto bytes = link.pipe->Receive(TimePoint::max());
    absl::Status status = bytes.status();
    if (bytes.ok()) {
      const auto message = DeserializeMessage(*bytes);
      status = message.ok() ? Handle(link, *message) : message.status();
    }
    if (status.ok()) continue;
    Fail(Named(link.hello.node_rank, status));
    return status;
  }
}

absl::Status Followers::Handle(Link& link, const GroupMessage& message) {
  if (std::holds_alternative<Loaded>(message)) {
    MutexLock lock(mutex_);
    link.loaded = true;
    changed_.NotifyAll();
    return absl::OkStatus();
  }
  const Events* events;
  {
    MutexLock lock(mutex_);
    events = events_.get();
  }
  const auto* ended = std::get_if<Ended>(&message);
  const int ranks = static_cast<int>(link.hello.available_bytes.size());
  if (ended == nullptr || events == nullptr || ended->rank / ranks != link.hello.node_rank) {
    return absl::InvalidArgumentError("a message that no follower sends here");
  }
  events->on_ended(*ended);
  return absl::OkStatus();
}

absl::Status Followers::Refuse(absl::Status status) {
  bool complete;
  {
    MutexLock lock(mutex_);
    complete = std::find(nodes_.begin(), nodes_.end(), nullptr) == nodes_.end();
  }
  if (complete) return TurnAway(std::move(status));
  Fail(status);
  return status;
}

absl::Status Followers::TurnAway(absl::Status status) const {
  if (options_.on_refusal) options_.on_refusal(status);
  return status;
}

void Followers::Fail(absl::Status status) {
  const Events* events;
  {
    MutexLock lock(mutex_);
    if (ending_ || !failure_.ok()) return;
    failure_ = status;
    events = events_.get();
    changed_.NotifyAll();
  }
  if (events != nullptr) events->on_failure(std::move(status));
}

}  // namespace yoio
