#include "client/credentials.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/read_file.h"

namespace yoio {
namespace {

constexpr size_t kMaxApiKeyBytes = 4096;

// Reads a PEM file into `out`; an empty `path` is none.
absl::Status ReadPem(const std::string& path, absl::string_view what, std::string& out) {
  if (path.empty()) return absl::OkStatus();
  absl::StatusOr<std::string> content = ReadFile(path);
  if (!content.ok()) return content.status();
  if (!absl::StrContains(*content, "-----BEGIN ")) {
    return absl::InvalidArgumentError(absl::StrCat(path, " holds no ", what, " in PEM form"));
  }
  out = *std::move(content);
  return absl::OkStatus();
}

absl::Status ReadTls(const CredentialFiles& files, TlsOptions& tls) {
  if (files.certificate.empty() != files.key.empty()) {
    return absl::InvalidArgumentError("a client's certificate and its private key go together");
  }
  if (absl::Status status = ReadPem(files.ca, "certificate", tls.ca); !status.ok()) return status;
  if (absl::Status status = ReadPem(files.certificate, "certificate", tls.certificate); !status.ok()) {
    return status;
  }
  return ReadPem(files.key, "private key", tls.private_key);
}

absl::Status ReadApiKey(const std::string& path, std::string& api_key) {
  const absl::StatusOr<std::string> content = ReadFile(path);
  if (!content.ok()) return content.status();
  const absl::string_view key = absl::StripTrailingAsciiWhitespace(*content);
  if (key.empty() || key.size() > kMaxApiKeyBytes ||
      !std::all_of(key.begin(), key.end(), absl::ascii_isgraph)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " holds no key or token: one line of 1 to ",
                                                   kMaxApiKeyBytes, " visible characters"));
  }
  api_key = std::string(key);
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadCredentials(const CredentialFiles& files, ChannelOptions& options) {
  if (files.tls || !files.ca.empty() || !files.certificate.empty() || !files.key.empty()) {
    if (absl::Status status = ReadTls(files, options.tls.emplace()); !status.ok()) return status;
  }
  return files.api_key.empty() ? absl::OkStatus() : ReadApiKey(files.api_key, options.api_key);
}

}  // namespace yoio
