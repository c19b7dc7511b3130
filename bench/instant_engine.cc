#include "bench/instant_engine.h"

#include <utility>

namespace yoio::bench {
namespace {

constexpr int kTextThreads = 1;
constexpr size_t kTextQueue = 1024;
// When no reader has caught up: as long as a short step.
constexpr Duration kPause = std::chrono::microseconds(50);

}  // namespace

InstantEngine::InstantEngine(Options options)
    : options_(std::move(options)), text_pool_(kTextThreads, kTextQueue) {
  model_.revision = "bench";
  model_.max_model_len = 1 << 30;
  model_.vocab_size = 1 << 20;
  model_.has_tokenizer = true;
  limits_.max_sequences = options_.streams;
  thread_ = std::thread([this] { Run(); });
}

InstantEngine::~InstantEngine() {
  {
    MutexLock lock(mutex_);
    closing_ = true;
    changed_.NotifyOne();
  }
  thread_.join();
}

absl::Status InstantEngine::Submit(Request request, std::shared_ptr<Outbox> outbox) {
  Stream stream{.outbox = std::move(outbox),
                .responder = nullptr,
                .id = std::move(request.id),
                .max_tokens = request.max_tokens.value_or(1)};
  if (options_.tokenizer != nullptr) {
    const ResponderOptions options{.prompt_tokens = 1,
                                   .n = 1,
                                   .output_text = true,
                                   .output_ids = request.output_ids,
                                   .skip_special_tokens = true,
                                   .stop = {}};
    stream.responder =
        std::make_shared<Responder>(options, options_.tokenizer, text_pool_, stream.outbox, [](int32_t) {});
  }
  MutexLock lock(mutex_);
  submitted_.push_back(std::move(stream));
  changed_.NotifyOne();
  return absl::OkStatus();
}

absl::Status InstantEngine::Cancel(std::string_view, std::string_view, absl::Status) {
  return absl::NotFoundError("no request of this engine is ever cancelled");
}

absl::StatusOr<std::vector<int32_t>> InstantEngine::Tokenize(std::string_view) const {
  return std::vector<int32_t>{options_.token};
}

absl::StatusOr<std::string> InstantEngine::Detokenize(const std::vector<int32_t>&, bool) const {
  return options_.text;
}

absl::Status InstantEngine::RunText(std::function<void()> work) {
  text_pool_.Run(std::move(work));
  return absl::OkStatus();
}

void InstantEngine::Run() {
  std::vector<Stream> streams;
  while (true) {
    {
      MutexLock lock(mutex_);
      while (!closing_ && static_cast<int>(submitted_.size()) < options_.streams) changed_.Wait(mutex_);
      if (closing_) return;
      streams.swap(submitted_);
    }
    for (Stream& stream : streams) Accept(stream);
    while (!streams.empty()) {
      if (!Round(streams)) std::this_thread::sleep_for(kPause);
    }
  }
}

bool InstantEngine::Round(std::vector<Stream>& streams) const {
  bool any = false;
  for (Stream& stream : streams) {
    if (!CanTake(stream)) continue;
    any = true;
    Give(stream);
    if (stream.given == stream.max_tokens) End(stream);
  }
  std::erase_if(streams, [](const Stream& stream) { return stream.given == stream.max_tokens; });
  return any;
}

bool InstantEngine::CanTake(const Stream& stream) const {
  if (options_.one_by_one && stream.responder != nullptr) return stream.responder->idle();
  if (options_.one_by_one) return stream.outbox->empty();
  return stream.responder != nullptr ? !stream.responder->full() : !stream.outbox->full();
}

void InstantEngine::Accept(Stream& stream) const {
  AcceptedEvent event{
      .request_id = stream.id, .prompt_tokens = 1, .sampling = {}, .max_tokens = stream.max_tokens, .n = 1};
  if (stream.responder != nullptr) return stream.responder->Accept(std::move(event));
  stream.outbox->Append(std::move(event));
}

void InstantEngine::Give(Stream& stream) const {
  ++stream.given;
  if (stream.responder != nullptr) {
    std::optional<Responder::Ending> ending;
    if (stream.given == stream.max_tokens) ending = {FinishReason::kLength};
    return stream.responder->Token(0, {.id = options_.token, .top = {}}, ending);
  }
  stream.outbox->Append(DeltaEvent{.choice = 0, .text = options_.text, .tokens = {}, .num_tokens = 1});
}

void InstantEngine::End(Stream& stream) const {
  const SummaryEvent summary{.usage = {.prompt_tokens = 1, .completion_tokens = stream.max_tokens},
                             .timing = {}};
  if (stream.responder != nullptr) return stream.responder->Complete(summary);
  stream.outbox->Append(FinishedEvent{.choice = 0, .reason = FinishReason::kLength, .matched_stop = {}});
  stream.outbox->Append(summary);
  stream.outbox->End(absl::OkStatus());
}

}  // namespace yoio::bench
