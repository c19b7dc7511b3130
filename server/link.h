// One end of the gRPC stream between the leader and a follower, as a pipe (engine/pipe.h).
#ifndef YOIO_SERVER_LINK_H_
#define YOIO_SERVER_LINK_H_

#include <chrono>
#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "engine/pipe.h"
#include "yoio/internal/v1/followers.pb.h"

namespace yoio {

using LinkMessage = internal::v1::LinkMessage;

// No message is larger. A step of 8,192 prompt tokens takes some hundred KiB.
inline constexpr int kMaxLinkMessageBytes = 64 << 20;
// What one message may hold before the reader has asked for more: a step plan travels in one go.
inline constexpr int kLinkLookaheadBytes = 4 << 20;
// A process that was stopped, or that nothing reaches any more, is noticed after this much silence and this
// long a wait for its answer, also when there is nothing to compute.
inline constexpr std::chrono::milliseconds kLinkKeepaliveTime = std::chrono::seconds(5);
inline constexpr std::chrono::milliseconds kLinkKeepaliveTimeout = std::chrono::seconds(10);

// What a link needs of its gRPC reactor. Called under the link's lock; never calls back from inside.
class LinkStream {
 public:
  // One write in flight; Link::OnWritten follows.
  virtual void Write(const LinkMessage& message) = 0;
  // Once, with no write in flight: all is written. The server's side ends the call; the client's waits for
  // that.
  virtual void Finish() = 0;
  // Ends the call at once.
  virtual void Cancel() = 0;

 protected:
  ~LinkStream() = default;
};

// What pipe and reactor of one end share. Its queues are bounded by what the ends have to say to each other:
// as many plans as steps may be in flight, and an answer to each. Thread-safe.
class Link {
 public:
  // `peer` names the other end in messages. `stream` lives until Detach.
  Link(LinkStream& stream, std::string peer) : peer_(std::move(peer)), stream_(&stream) {}

  // As Pipe.
  void Send(std::string message);
  absl::StatusOr<std::string> Receive(TimePoint deadline);
  void Break(absl::Status status);
  // Blocks until the call has ended, and ends it at `deadline` itself.
  void AwaitDone(TimePoint deadline);

  // The reactor's side. OnOpened: the server has taken the call.
  void OnOpened();
  void OnRead(LinkMessage message);
  // Nothing more can be read, nor written.
  void OnReadsEnded();
  void OnWritten(bool ok);
  // The call has ended: nothing is asked of the stream any more, and it may be destroyed.
  void Detach();
  // It has been destroyed. `status` says why the call has ended, if that is known.
  void OnDone(absl::Status status);

  // Blocks until the server has taken the call. Else why it has not, as gRPC puts it, or DEADLINE_EXCEEDED.
  absl::Status WaitUntilOpened(TimePoint deadline);

 private:
  absl::Status Gone(const std::string& detail) const;
  // Writes what waits, or finishes once all is written and the pipe is broken.
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string peer_;
  Mutex mutex_;
  CondVar changed_;
  LinkStream* stream_ ABSL_GUARDED_BY(mutex_);  // null once the call has ended
  std::deque<LinkMessage> to_write_ ABSL_GUARDED_BY(mutex_);
  LinkMessage in_flight_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::string> received_ ABSL_GUARDED_BY(mutex_);
  absl::Status broken_ ABSL_GUARDED_BY(mutex_);
  bool opened_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool writable_ ABSL_GUARDED_BY(mutex_) = true;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
};

// Breaks the link when it is destroyed, and leaves the rest to gRPC.
class LinkPipe : public Pipe {
 public:
  explicit LinkPipe(std::shared_ptr<Link> link) : link_(std::move(link)) {}
  ~LinkPipe() override { link_->Break(absl::CancelledError("the other end has closed the pipe")); }

  void Send(std::string message) override { link_->Send(std::move(message)); }
  absl::StatusOr<std::string> Receive(TimePoint deadline) override { return link_->Receive(deadline); }
  void Break(absl::Status status) override { link_->Break(std::move(status)); }

 protected:
  Link& link() { return *link_; }

 private:
  const std::shared_ptr<Link> link_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_LINK_H_
