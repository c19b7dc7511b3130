#include "server/follower_server.h"

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_context.h>

#include <deque>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status.h"
#include "server/grpc_server.h"
#include "server/link.h"
#include "server/token.h"
#include "yoio/internal/v1/followers.grpc.pb.h"

namespace yoio {
namespace {

using std::chrono::seconds;
using Reactor = grpc::ServerBidiReactor<LinkMessage, LinkMessage>;

// Pings come from both ends, with data and without.
constexpr Keepalive kKeepalive{
    .time = kLinkKeepaliveTime, .timeout = kLinkKeepaliveTimeout, .min_interval = seconds(1)};
constexpr Duration kShutdownGrace = seconds(1);

grpc::Status ToGrpc(const absl::Status& status) {
  return {static_cast<grpc::StatusCode>(status.code()), std::string(status.message())};
}

// The leader's end of a link. Deletes itself when gRPC is done with it.
class LeaderEnd final : public Reactor, public LinkStream {
 public:
  explicit LeaderEnd(grpc::CallbackServerContext& context)
      : context_(context),
        link_(std::make_shared<Link>(*this, absl::StrCat("the follower at ", context.peer()))) {
    link_->OnOpened();
    StartSendInitialMetadata();  // tells the follower that it is in
    StartRead(&incoming_);
  }

  const std::shared_ptr<Link>& link() const { return link_; }

  void Write(const LinkMessage& message) override { StartWrite(&message); }
  void Finish() override { Reactor::Finish(grpc::Status::OK); }
  void Cancel() override { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) return link_->OnReadsEnded();
    link_->OnRead(std::move(incoming_));
    StartRead(&incoming_);
  }
  void OnWriteDone(bool ok) override { link_->OnWritten(ok); }
  void OnDone() override {
    const std::shared_ptr<Link> link = link_;
    link->Detach();
    delete this;
    link->OnDone(absl::OkStatus());
  }

 private:
  grpc::CallbackServerContext& context_;
  LinkMessage incoming_;
  const std::shared_ptr<Link> link_;
};

// A call that fails at once.
class Refusal final : public Reactor {
 public:
  explicit Refusal(const absl::Status& status) { Finish(ToGrpc(status)); }
  void OnDone() override { delete this; }
};

}  // namespace

class FollowerService final : public internal::v1::FollowerService::CallbackService {
 public:
  FollowerService(std::string token, const Logger& log) : expected_(std::move(token)), log_(log) {}

  Reactor* Join(grpc::CallbackServerContext* context) override {
    if (!SameSecret(TokenOf(*context), expected_)) {
      log_.Write(std::move(LogLine(LogLevel::kWarning, "follower refused")
                               .With("peer", context->peer())
                               .With("message", "its token is not that of --follower-token-file")));
      return new Refusal(absl::UnauthenticatedError("the token is not that of the leader"));
    }
    MutexLock lock(mutex_);
    if (!refusal_.ok()) {
      log_.Write(std::move(LogLine(LogLevel::kWarning, "follower refused")
                               .With("peer", context->peer())
                               .With("message", std::string(refusal_.message()))));
      return new Refusal(refusal_);
    }
    log_.Write(std::move(LogLine(LogLevel::kInfo, "follower came").With("peer", context->peer())));
    auto* end = new LeaderEnd(*context);
    waiting_.push_back(std::make_unique<LinkPipe>(end->link()));
    changed_.NotifyAll();
    return end;
  }

  absl::StatusOr<std::unique_ptr<Pipe>> Accept(TimePoint deadline) {
    MutexLock lock(mutex_);
    while (waiting_.empty() && refusal_.ok()) {
      if (Clock::now() >= deadline) return absl::DeadlineExceededError("no follower has come");
      changed_.WaitUntil(mutex_, deadline);
    }
    if (waiting_.empty()) return refusal_;
    std::unique_ptr<Pipe> pipe = std::move(waiting_.front());
    waiting_.pop_front();
    return pipe;
  }

  void Refuse(absl::Status reason) {
    MutexLock lock(mutex_);
    refusal_ = std::move(reason);
    for (const auto& pipe : waiting_) pipe->Break(refusal_);
    waiting_.clear();
    changed_.NotifyAll();
  }

 private:
  const std::string expected_;
  const Logger& log_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::unique_ptr<Pipe>> waiting_ ABSL_GUARDED_BY(mutex_);
  absl::Status refusal_ ABSL_GUARDED_BY(mutex_);
};

FollowerServer::FollowerServer() = default;

absl::StatusOr<std::unique_ptr<FollowerServer>> FollowerServer::Start(const Address& listen,
                                                                      std::string token, const Logger& log,
                                                                      ServerTls* tls) {
  std::unique_ptr<FollowerServer> followers(new FollowerServer);
  followers->address_ = listen;
  followers->service_ = std::make_unique<FollowerService>(std::move(token), log);
  grpc::ServerBuilder builder;
  builder.RegisterService(followers->service_.get());
  builder.SetMaxReceiveMessageSize(kMaxLinkMessageBytes);
  builder.SetMaxSendMessageSize(kMaxLinkMessageBytes);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kLinkLookaheadBytes);
  YOIO_ASSIGN_OR_RETURN(followers->server_,
                        StartGrpcServer(builder, tls, nullptr, kKeepalive, followers->address_));
  return followers;
}

FollowerServer::~FollowerServer() {
  if (server_ == nullptr) return;
  Refuse(absl::UnavailableError("the leader is shutting down"));
  server_->Shutdown(After(kShutdownGrace));
}

absl::StatusOr<std::unique_ptr<Pipe>> FollowerServer::Accept(TimePoint deadline) {
  return service_->Accept(deadline);
}

void FollowerServer::Refuse(absl::Status reason) { service_->Refuse(std::move(reason)); }

}  // namespace yoio
