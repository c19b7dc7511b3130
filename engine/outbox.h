// The bounded mailbox between the engine and the one stream that reads it.
#ifndef YOIO_ENGINE_OUTBOX_H_
#define YOIO_ENGINE_OUTBOX_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "engine/event.h"

namespace yoio {

// The side of a stream that the engine can see. Owned by the server; kept alive by the Outbox until End was
// taken.
class Transport {
 public:
  virtual ~Transport() = default;
  // Something can be taken. Called at most once until a Take has returned nothing. Must not block. Called
  // from the text pool or from whoever called Submit or Cancel, never with a lock held and never from the
  // engine thread.
  virtual void Ready() = 0;
  // The stream has ended, but the reader is busy with what came before: from now on that is all it waits for.
  // Called at most once, before the end can be taken, with a lock held: it must do next to nothing.
  virtual void EndWaits() {}
};

// Collects the events of one request. Thread-safe. While the reader is busy, deltas of one choice merge into
// one pending event and a newer progress replaces an older one, so that a slow reader costs memory for its
// tokens and nothing else. Shared by the request's Responder (which appends) and its stream (which takes).
class Outbox {
 public:
  static constexpr int kMaxTokens = 256;
  static constexpr size_t kMaxBytes = size_t{64} << 10;

  struct Taken {
    std::vector<Event> events;           // in order
    std::optional<absl::Status> end;     // set once, after the last event: how the stream ends
    std::optional<SummaryEvent> so_far;  // beside an error, when the request had been queued

    bool empty() const { return events.empty() && !end.has_value(); }
  };

  explicit Outbox(std::shared_ptr<Transport> transport) : transport_(std::move(transport)) {}

  void Append(Event event);
  // Nothing may be appended after it. A failed request may say how far it came.
  void End(absl::Status status, std::optional<SummaryEvent> so_far = std::nullopt);

  // Everything that is waiting, in place of what is in `taken`, whose memory the outbox uses next. False when
  // nothing is, which re-arms Transport::Ready: the next reader may then be at work already, with the same
  // `taken`. The reader calls it after Ready, and again until it is false; it holds its own reference to the
  // transport meanwhile. After the end has been taken it is always false and Ready is not called again.
  bool Take(Taken& taken);
  Taken Take() {
    Taken taken;
    Take(taken);
    return taken;
  }

  // More than kMaxTokens generated tokens or kMaxBytes bytes (of any event) are waiting: the sequence must
  // not be scheduled. What was already on its way is still taken in: the bound may be passed by a step or
  // two.
  bool full() const;
  // Nothing waits to be taken.
  bool empty() const;
  // Of text and records, that wait to be taken.
  size_t bytes() const;
  // Since when it has been full without pause, or nullopt.
  std::optional<TimePoint> full_since() const;
  // Total time it has been full.
  Duration blocked() const;

 private:
  bool over_bound() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return tokens_ > kMaxTokens || bytes_ > kMaxBytes;
  }
  // Joins `event` with one that waits; false when none fits.
  bool Merge(Event& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The reader, if it must be told now that something waits.
  std::shared_ptr<Transport> WakeReader() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  std::shared_ptr<Transport> transport_ ABSL_GUARDED_BY(mutex_);  // null once the end has been taken
  std::vector<Event> events_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
  std::optional<SummaryEvent> so_far_ ABSL_GUARDED_BY(mutex_);
  bool reader_busy_ ABSL_GUARDED_BY(mutex_) = false;  // told, and has not found the outbox empty since
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  int tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<TimePoint> full_since_ ABSL_GUARDED_BY(mutex_);
  Duration blocked_ ABSL_GUARDED_BY(mutex_){};  // of the times that are over
};

}  // namespace yoio

#endif  // YOIO_ENGINE_OUTBOX_H_
