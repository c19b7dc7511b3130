#include "client/commands/report.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/commands/command.h"
#include "client/error_details.h"

namespace yoio {
namespace {

struct Advice {
  const char* reason;
  const char* what_to_do;
};

constexpr Advice kAdvice[] = {
    {"BAD_VALUE", "Correct what is named there, then try again; --help shows what each option takes."},
    {"PROMPT_TOO_LONG", "Shorten the prompt or lower --max-tokens; `yoio info` shows the limit."},
    {"UNKNOWN_MODEL", "Leave --model out, or take a name that `yoio info` shows."},
    {"REQUEST_ID_IN_USE", "Choose another --request-id, or wait until that request has ended."},
    {"UNSUPPORTED_FIELD", "Leave out what is named there: this server cannot honour it."},
    {"UNKNOWN_FIELD", "Leave out what is named there, or use a newer server."},
    {"NOT_ALLOWED", "Ask the operator of the server to allow it."},
    {"TENANT_LIMIT", "Wait until other requests of yours have ended, then try again."},
    {"EXPIRED", "Allow more by --timeout, or use --time-budget, which keeps what is ready in time."},
    {"INFEASIBLE", "Allow more by --timeout, or shorten the prompt."},
    {"SLOW_READER", "Read the output faster, for instance by sending it to a file."},
    {"ABORTED_BY_CALL", "Send the request again if whoever aborted it by its id was wrong."},
    {"STARTING", "Wait until `yoio health` says SERVING, then try again."},
    {"DRAINING", "Use another server, or try again when this one has been restarted."},
    {"BUG", "Report it to the operator of the server, with the request id."},
};

std::string WhatToDo(const absl::Status& status, const ErrorDetails& details,
                     const ListenerAdvice& listener) {
  if (details.retry_after) {
    return absl::StrCat("Try again in ", std::ceil(ToSeconds(*details.retry_after)), " s.");
  }
  if (details.reason == "BAD_CREDENTIAL") return listener.bad_credential;
  if (details.reason == "ENGINE_FAILED") {
    return details.suspect ? "Try again at most once: this request may be what broke the engine."
                           : "Try again when the server has restarted; `yoio health` tells.";
  }
  for (const Advice& advice : kAdvice) {
    if (advice.reason == details.reason) return advice.what_to_do;
  }
  switch (status.code()) {
    case absl::StatusCode::kDeadlineExceeded:
      return "Allow more by --timeout, or use --time-budget, which keeps what is ready in time.";
    case absl::StatusCode::kUnimplemented:
      return "Check that a yoio server listens there, as new as this client; `yoio info` shows its version.";
    case absl::StatusCode::kResourceExhausted:
      return "Send less at a time; `yoio info` shows every limit.";
    default:
      return "Try again; if it stays so, report it to the operator of the server.";
  }
}

std::string OneLine(absl::string_view text) {
  return absl::StrReplaceAll(text, {{"\r\n", " "}, {"\n", " "}, {"\r", " "}});
}

// What gRPC says when no connection comes to stand, and what that means to a person.
struct ConnectionFailure {
  const char* sign;
  const char* what;
  const char* what_to_do;
};

constexpr ConnectionFailure kConnectionFailures[] = {
    {"certificate verify failed", "its certificate is not signed by a CA that this client trusts",
     "Name the file with the certificate of that CA by --tls-ca."},
    {"is not in peer certificate", "its certificate is for another name",
     "Name the server as its certificate does: --server NAME:PORT."},
    {"wrong version number", "it does not speak TLS",
     "Leave --tls, --tls-ca and --tls-cert out, or name another server with --server HOST:PORT."},
    {"Socket closed", "it closed the connection",
     "If it speaks TLS use --tls or --tls-ca; if it asks for a client certificate, --tls-cert and "
     "--tls-key."},
    {"Connection reset by peer", "it closed the connection",
     "If it speaks TLS use --tls or --tls-ca; if it asks for a client certificate, --tls-cert and "
     "--tls-key."},
};

// gRPC chains the causes of a failed connection; the last one is what a person can use.
absl::string_view LastPart(absl::string_view message) {
  const size_t colon = message.rfind(": ");
  return colon == absl::string_view::npos ? message : message.substr(colon + 2);
}

int ReportNoAnswer(absl::string_view message, const std::string& server, const ListenerAdvice& listener) {
  const std::string start = absl::StrCat("no answer from ", server, ": ");
  for (const ConnectionFailure& failure : kConnectionFailures) {
    if (!absl::StrContains(message, failure.sign)) continue;
    PrintError(absl::StrCat(start, failure.what), failure.what_to_do);
    return kUnavailable;
  }
  PrintError(absl::StrCat(start, LastPart(message)), listener.no_answer);
  return kUnavailable;
}

}  // namespace

const ListenerAdvice kDataListener = {
    "Start one (yoio-server --help), or name another with --server HOST:PORT.",
    "Name a file with a valid API key by --api-key-file, or ask the operator for one."};
const ListenerAdvice kAdminListener = {
    "Start yoio-server with --admin-listen and --admin-token-file, or name its admin listener with --server "
    "HOST:PORT.",
    "Name the file with the server's admin token by --admin-token-file."};

void PrintError(absl::string_view what, absl::string_view what_to_do) {
  std::fflush(stdout);
  std::fprintf(stderr, "yoio: %s\n%s\n", OneLine(what).c_str(), OneLine(what_to_do).c_str());
}

int ReportFailedCall(const absl::Status& status, const std::string& server, const ListenerAdvice& listener) {
  const ErrorDetails details = DetailsOf(status);
  if (absl::IsCancelled(status) && details.reason != "ABORTED_BY_CALL") return kInterrupted;
  if (absl::IsUnavailable(status) && details.reason.empty()) {
    return ReportNoAnswer(status.message(), server, listener);
  }
  const std::string request =
      details.request_id.empty() ? "" : absl::StrCat(" (request ", details.request_id, ")");
  const std::string reason = details.reason.empty() ? "" : absl::StrCat(", ", details.reason);
  PrintError(absl::StrCat(absl::StatusCodeToString(status.code()), reason, ": ", status.message(), request),
             WhatToDo(status, details, listener));
  return absl::IsUnavailable(status) ? kUnavailable : kFailed;
}

void PrintJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string line;
  const auto status = google::protobuf::util::MessageToJsonString(message, &line, options);
  if (!status.ok()) {
    PrintError(absl::StrCat("a message of the server is no JSON: ", status.ToString()),
               "Leave --json out, and report it to the operator of the server.");
    return;
  }
  PrintNow(absl::StrCat(line, "\n"));
}

void PrintNow(absl::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

std::string Columns(const std::vector<Row>& rows) {
  size_t name_width = 0, value_width = 0;
  for (const Row& row : rows) {
    if (row.value.empty()) continue;
    name_width = std::max(name_width, row.name.size());
    if (!row.remark.empty()) value_width = std::max(value_width, row.value.size());
  }
  std::string out;
  for (const Row& row : rows) {
    if (row.value.empty()) continue;
    absl::StrAppend(&out, row.name, std::string(name_width - row.name.size() + 2, ' '), row.value);
    if (!row.remark.empty()) {
      absl::StrAppend(&out, std::string(value_width - row.value.size() + 2, ' '), row.remark);
    }
    out += '\n';
  }
  return out;
}

std::string Grouped(int64_t number) {
  std::string digits = absl::StrCat(number);
  for (int at = static_cast<int>(digits.size()) - 3; at > (number < 0 ? 1 : 0); at -= 3)
    digits.insert(at, ",");
  return digits;
}

}  // namespace yoio
