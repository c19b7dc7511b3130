#include "server/metrics/metrics_listener.h"

#include <civetweb.h>

#include <atomic>
#include <chrono>
#include <string>
#include <string_view>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "server/metrics/exposition.h"

namespace yoio {
namespace {

// Each connection holds one thread until it is answered, or for the time that a request may take.
constexpr char kThreads[] = "8";
constexpr char kRequestMillis[] = "1000";
constexpr char kMostHeaderBytes[] = "8192";
constexpr char kMostQueuedConnections[] = "16";

struct Response {
  int code;
  std::string head;  // what stands behind HTTP/1.1, further header lines included
  std::string body;
};

void Send(mg_connection* connection, const Response& response, bool with_body) {
  std::string text = absl::StrCat("HTTP/1.1 ", response.head, "\r\nContent-Length: ", response.body.size(),
                                  "\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n");
  if (with_body) text += response.body;
  mg_write(connection, text.data(), text.size());
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsListener>> MetricsListener::Start(const Address& listen,
                                                                        const ServerMetrics& metrics) {
  YOIO_RETURN_IF_ERROR(CheckCanBind(listen));
  std::unique_ptr<MetricsListener> listener(new MetricsListener(listen, metrics));
  mg_callbacks callbacks{};
  callbacks.begin_request = [](mg_connection* connection) {
    return static_cast<MetricsListener*>(mg_get_request_info(connection)->user_data)->Answer(connection);
  };
  // What it would say is of clients' mistakes.
  callbacks.log_message = [](const mg_connection*, const char*) { return 1; };
  const std::string address = listen.ToString();
  const char* options[] = {"listening_ports",
                           address.c_str(),
                           "num_threads",
                           kThreads,
                           "request_timeout_ms",
                           kRequestMillis,
                           "max_request_size",
                           kMostHeaderBytes,
                           "connection_queue",
                           kMostQueuedConnections,
                           "enable_keep_alive",
                           "no",
                           "enable_directory_listing",
                           "no",
                           nullptr};
  mg_init_library(MG_FEATURES_DEFAULT);
  listener->context_ = mg_start(&callbacks, listener.get(), options);
  mg_server_port port{};
  if (listener->context_ == nullptr || mg_get_server_ports(listener->context_, 1, &port) != 1) {
    return absl::AlreadyExistsError(absl::StrCat(address, ": could not listen on it"));
  }
  listener->address_.port = port.port;
  return listener;
}

MetricsListener::~MetricsListener() {
  if (context_ != nullptr) Stop();
  mg_exit_library();
}

// CivetWeb looks whether it is to stop when somebody connects, or after two seconds.
void MetricsListener::Stop() const {
  std::atomic<bool> stopped{false};
  std::thread stopping([&] {
    mg_stop(context_);
    stopped = true;
  });
  while (!stopped) {
    char error[128];
    mg_connection* connection =
        mg_connect_client(address_.host.c_str(), address_.port, /*use_ssl=*/0, error, sizeof(error));
    if (connection != nullptr) mg_close_connection(connection);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  stopping.join();
}

int MetricsListener::Answer(mg_connection* connection) const {
  const mg_request_info& request = *mg_get_request_info(connection);
  const std::string_view method = request.request_method;
  const bool get = method == "GET";
  Response response;
  if (std::string_view(request.local_uri) != "/metrics") {
    response = {404, "404 Not Found\r\nContent-Type: text/plain", "Metrics are at /metrics.\n"};
  } else if (!get && method != "HEAD") {
    response = {405, "405 Method Not Allowed\r\nAllow: GET, HEAD", ""};
  } else {
    const char* accept = mg_get_header(connection, "Accept");
    const ExpositionFormat format = ChooseFormat(accept != nullptr ? accept : "");
    response = {200, absl::StrCat("200 OK\r\nContent-Type: ", std::string(ContentType(format))),
                metrics_.Scrape(format)};
  }
  Send(connection, response, method != "HEAD");
  return response.code;
}

}  // namespace yoio
