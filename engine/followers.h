// The leader's followers: lets them in, hears what they say, tells them what to do.
#ifndef YOIO_ENGINE_FOLLOWERS_H_
#define YOIO_ENGINE_FOLLOWERS_H_

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "engine/group_messages.h"
#include "engine/pipe.h"

namespace yoio {

struct FollowersOptions {
  Doorway* doorway = nullptr;  // outlives the followers
  Hello leader;                // what the leader says of itself, and every follower must say too
  // Told why somebody at the doorway was turned away who is no part of the group. Called on a thread of this
  // object. May be empty.
  std::function<void(const absl::Status&)> on_refusal;
};

// One follower for each node but the leader's. Whoever says Hello and does not fit ends the start of the
// group; whoever comes for a place that is taken is turned away, to the end. The first failure of any
// follower is that of all: UNAVAILABLE or the reason that the follower gave, naming its node.
//
// Break is for any thread, the rest for one thread at a time.
class Followers {
 public:
  explicit Followers(const FollowersOptions& options);
  // Breaks the pipes and waits for the threads that hear them.
  ~Followers();

  // Blocks until all have come. Their Hellos in order of node, from node 1 on; DEADLINE_EXCEEDED naming the
  // nodes that have not come, or the failure.
  absl::StatusOr<std::vector<Hello>> Gather(TimePoint deadline);

  struct Events {
    std::function<void(const Ended&)> on_ended;
    std::function<void(absl::Status)> on_failure;  // once
  };
  // Tells each what `welcome` says, and which ranks are its own. `events` are called on threads of this
  // object from now on; a failure may have happened before.
  void Welcome(yoio::Welcome welcome, Events events);
  // Blocks until the ranks of all are up. DEADLINE_EXCEEDED as Gather's, or the failure.
  absl::Status AwaitLoaded(TimePoint deadline);

  // Never blocks.
  void Send(const StepPlan& plan);
  // Ends them all with `status`. Never blocks.
  void Break(const absl::Status& status);
  // Ends them in good order: they leave once the steps that they were sent have ended. From now on nobody is
  // missed.
  void SayBye();
  void AwaitGone(TimePoint deadline);

 private:
  // Somebody who has come, and the thread that hears him.
  struct Link {
    std::unique_ptr<Pipe> pipe;
    std::thread thread;
    Hello hello;          // of a follower
    bool loaded = false;  // of a follower
    bool done = false;    // the thread has come to its end
  };

  // The door's thread.
  void LetIn();
  void Reap() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // A link's thread.
  void Hear(Link& link);
  absl::Status TakeIn(Link& link);
  absl::Status GiveItsPlace(Link& link, Hello hello);
  absl::Status Listen(Link& link);
  absl::Status Handle(Link& link, const GroupMessage& message);

  // What a link ends with that is no follower's: the end of a start, or nobody's business but the log's.
  absl::Status Refuse(absl::Status status);
  absl::Status TurnAway(absl::Status status) const;
  void Fail(absl::Status status);
  // Blocks until `holds` for every node, or the failure.
  absl::Status Await(TimePoint deadline, const char* what, bool (*holds)(const Link*))
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const FollowersOptions options_;
  Mutex mutex_;
  CondVar changed_;
  std::list<Link> links_ ABSL_GUARDED_BY(mutex_);
  std::vector<Link*> nodes_ ABSL_GUARDED_BY(mutex_);  // by node, from node 1 on; null before it has come
  std::unique_ptr<const Events> events_ ABSL_GUARDED_BY(mutex_);  // set once
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;   // whoever goes from now on is not missed
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;  // nobody is let in any more
  std::thread door_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_FOLLOWERS_H_
