#include "server/metrics/metrics_listener.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "server/metrics/exposition.h"

namespace yoio {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kPatience = std::chrono::seconds(1);  // for a request to come, and for its answer to be taken
constexpr uint32_t kMostHeaderBytes = 8192;
constexpr int kMostConnections = 64;  // further ones are closed at once

using Response = http::response<http::string_body>;

Response MakeResponse(http::status status, std::string_view content_type, std::string body) {
  Response response(status, 11);
  response.set(http::field::content_type, beast::string_view(content_type.data(), content_type.size()));
  response.set(http::field::cache_control, "no-store");
  response.keep_alive(false);
  response.body() = std::move(body);
  return response;
}

Response Answer(const http::request<http::empty_body>& request, const ServerMetrics& metrics) {
  const std::string_view target(request.target().data(), request.target().size());
  if (target != "/metrics" && !absl::StartsWith({target.data(), target.size()}, "/metrics?")) {
    return MakeResponse(http::status::not_found, "text/plain", "Metrics are at /metrics.\n");
  }
  if (request.method() != http::verb::get && request.method() != http::verb::head) {
    Response refusal = MakeResponse(http::status::method_not_allowed, "text/plain", "");
    refusal.set(http::field::allow, "GET, HEAD");
    return refusal;
  }
  const beast::string_view accept = request[http::field::accept];
  const ExpositionFormat format = ChooseFormat({accept.data(), accept.size()});
  return MakeResponse(http::status::ok, ContentType(format), metrics.Scrape(format));
}

// One connection, for one request. Lives as long as something of it is under way.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(tcp::socket socket, const ServerMetrics& metrics, int& connections)
      : stream_(std::move(socket)), metrics_(metrics), connections_(connections) {
    ++connections_;
    parser_.header_limit(kMostHeaderBytes);
  }
  ~Session() { --connections_; }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // What comes behind the header is of no interest.
  void Run() {
    stream_.expires_after(kPatience);
    http::async_read_header(stream_, buffer_, parser_, [self = shared_from_this()](error_code error, size_t) {
      if (!error) self->Send();
    });
  }

 private:
  void Send() {
    response_ = Answer(parser_.get(), metrics_);
    response_.prepare_payload();
    serializer_.emplace(response_);
    stream_.expires_after(kPatience);
    const auto sent = [self = shared_from_this()](error_code, size_t) {
      error_code ignored;
      self->stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    };
    if (parser_.get().method() == http::verb::head) {
      http::async_write_header(stream_, *serializer_, sent);
    } else {
      http::async_write(stream_, *serializer_, sent);
    }
  }

  beast::tcp_stream stream_;
  const ServerMetrics& metrics_;
  int& connections_;  // the thread's alone
  beast::flat_buffer buffer_;
  http::request_parser<http::empty_body> parser_;
  Response response_;
  std::optional<http::response_serializer<http::string_body>> serializer_;
};

}  // namespace

class MetricsListener::Server {
 public:
  explicit Server(const ServerMetrics& metrics) : metrics_(metrics) {}
  ~Server() {
    context_.stop();
    if (thread_.joinable()) thread_.join();
  }

  // The port.
  absl::StatusOr<int> Listen(const Address& address) {
    error_code error;
    const auto found = tcp::resolver(context_).resolve(address.host, absl::StrCat(address.port),
                                                       tcp::resolver::passive, error);
    if (!error) acceptor_.open(found->endpoint().protocol(), error);
    if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor_.bind(*found, error);
    if (!error) acceptor_.listen(kMostConnections, error);
    if (error) return absl::AlreadyExistsError(absl::StrCat(address.ToString(), ": ", error.message()));
    const int port = acceptor_.local_endpoint(error).port();
    Accept();
    thread_ = std::thread([this] { context_.run(); });
    return port;
  }

 private:
  void Accept() {
    acceptor_.async_accept([this](error_code error, tcp::socket socket) {
      if (!error && connections_ < kMostConnections) {
        std::make_shared<Session>(std::move(socket), metrics_, connections_)->Run();
      }
      if (!error) return Accept();
      // No file is left, say: better a little later than at once and again.
      pause_.expires_after(std::chrono::milliseconds(100));
      pause_.async_wait([this](error_code) { Accept(); });
    });
  }

  const ServerMetrics& metrics_;
  int connections_ = 0;  // outlives the context, and with it every session
  asio::io_context context_{1};
  tcp::acceptor acceptor_{context_};
  asio::steady_timer pause_{context_};
  std::thread thread_;
};

MetricsListener::MetricsListener(Address address, std::unique_ptr<Server> server)
    : address_(std::move(address)), server_(std::move(server)) {}
MetricsListener::~MetricsListener() = default;

absl::StatusOr<std::unique_ptr<MetricsListener>> MetricsListener::Start(const Address& listen,
                                                                        const ServerMetrics& metrics) {
  YOIO_RETURN_IF_ERROR(CheckCanBind(listen));
  auto server = std::make_unique<Server>(metrics);
  Address address = listen;
  YOIO_ASSIGN_OR_RETURN(address.port, server->Listen(listen));
  return std::unique_ptr<MetricsListener>(new MetricsListener(std::move(address), std::move(server)));
}

}  // namespace yoio
