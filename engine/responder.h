// The text side of one request: turns sampled tokens into events, in order, on the text pool.
#ifndef YOIO_ENGINE_RESPONDER_H_
#define YOIO_ENGINE_RESPONDER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "engine/event.h"
#include "engine/outbox.h"
#include "engine/request.h"
#include "engine/stop_matcher.h"
#include "engine/text_pool.h"
#include "engine/tokenizer/tokenizer.h"

namespace yoio {

struct ResponderOptions {
  int32_t prompt_tokens;
  int32_t n;
  bool output_text;
  bool output_ids;  // tokens travel in deltas (also when log-probabilities were asked for)
  bool skip_special_tokens;
  StopParams stop;
};

// The engine calls in from its own thread and never waits: each call appends to an inbox, and one task at a
// time on the text pool empties it (an actor). A choice's text is detokenised there, stop strings are
// matched, text that may begin one is held back, and events go to the outbox. The responder alone decides how
// a choice ended: a stop string that the engine could not see wins over anything that the engine said later,
// or said of the token that completes it. Thread-safe. Shared by the engine and the task that runs; made by
// std::make_shared.
//
// Stop strings are looked for after the text of the first min_tokens tokens, where no stop id can end a
// choice either. Tokens after the end of a choice are dropped and not counted. Token records do not wait for
// text that is held back.
class Responder : public std::enable_shared_from_this<Responder> {
 public:
  // `tokenizer` may be null when neither text nor stop strings are wanted. `on_stop_string` is called on the
  // text pool, at most once per choice, as soon as a stop string ended it; it must not block. The tokenizer
  // and the pool outlive the last call.
  Responder(ResponderOptions options, const Tokenizer* tokenizer, TextPool& pool,
            std::shared_ptr<Outbox> outbox, std::function<void(int32_t choice)> on_stop_string);

  void Accept(AcceptedEvent event);
  void Progress(ProgressEvent event);
  void PromptScores(PromptScoresEvent event);
  // A token of `choice`. `ending` says that the engine ends the choice with it (EOS, stop id, length).
  struct Ending {
    FinishReason reason;
    int32_t matched_id = -1;
  };
  void Token(int32_t choice, TokenRecord token, std::optional<Ending> ending);
  // Ends a choice without a further token (time budget). Nothing happens when it has ended.
  void Finish(int32_t choice, Ending ending);

  // The last call: every choice has ended. Fills usage.completion_tokens by what was delivered.
  void Complete(SummaryEvent summary);
  // Or the last call: the request failed. Text held back is not delivered.
  void Fail(absl::Status status, std::optional<SummaryEvent> so_far = std::nullopt);

  // The reader is behind: the sequence must not be scheduled. The inbox is held to the bounds of the outbox,
  // so that a busy text pool slows the engine down as well.
  bool full() const;
  // The reader has taken everything there was to say.
  bool idle() const;
  std::optional<TimePoint> full_since() const { return outbox_->full_since(); }
  Duration blocked() const { return outbox_->blocked(); }

  // Tokens delivered so far, over all choices; final after Complete or Fail was processed.
  int32_t tokens_sent() const { return tokens_sent_.load(std::memory_order_relaxed); }

 private:
  // What waits in the inbox.
  struct Arrival {
    int32_t choice;
    std::optional<TokenRecord> token;
    std::optional<Ending> ending;
  };
  struct Failure {
    absl::Status status;
    std::optional<SummaryEvent> so_far;
  };
  using Message = std::variant<Event, Arrival, Failure>;

  // One of the request's n outputs.
  struct Choice {
    std::optional<Detokenizer> detokenizer;  // unless there is no use for text
    std::optional<StopMatcher> matcher;      // when there are stop strings
    int32_t num_tokens = 0;
    int32_t num_reported = 0;  // of them, told to the outbox
    bool finished = false;
  };

  void Post(Message message, bool last = false);
  void EmptyInbox();

  void Process(Event& event);
  void Process(Arrival& arrival);
  void Process(Failure& failure);
  // Appends what may be shown of `piece` to `text`. Returns the stop string that ended the choice with it.
  std::optional<int> Show(Choice& choice, std::string_view piece, std::string& text);
  std::optional<int> ShowRest(Choice& choice, std::string& text);

  const ResponderOptions options_;
  TextPool& pool_;
  const std::shared_ptr<Outbox> outbox_;
  const std::function<void(int32_t)> on_stop_string_;

  // Touched by the task alone; tasks follow each other through mutex_.
  std::vector<Choice> choices_;
  std::vector<Message> batch_;  // what it has taken from the inbox
  std::atomic<int32_t> tokens_sent_{0};

  mutable Mutex mutex_;
  std::vector<Message> inbox_ ABSL_GUARDED_BY(mutex_);
  int inbox_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  int inbox_scores_ ABSL_GUARDED_BY(mutex_) = 0;         // records of prompt scores
  bool task_scheduled_ ABSL_GUARDED_BY(mutex_) = false;  // or running
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;          // the last call has been made
};

}  // namespace yoio

#endif  // YOIO_ENGINE_RESPONDER_H_
