#include "server/token.h"

#include <grpcpp/server_context.h>

#include <algorithm>
#include <iterator>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "server/secret_file.h"

namespace yoio {
namespace {

constexpr size_t kMinTokenBytes = 16;
constexpr size_t kMaxTokenBytes = 4096;
constexpr std::string_view kScheme = "Bearer ";

}  // namespace

absl::StatusOr<std::string> ReadToken(const std::string& path) {
  YOIO_ASSIGN_OR_RETURN(std::string token, ReadSecretFile(path, kMaxTokenBytes + 2));  // a line's end too
  absl::StripTrailingAsciiWhitespace(&token);
  if (token.size() < kMinTokenBytes || token.size() > kMaxTokenBytes ||
      !std::all_of(token.begin(), token.end(), absl::ascii_isgraph)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected one line of ", kMinTokenBytes, " to ",
                                                   kMaxTokenBytes, " visible ASCII characters"));
  }
  return token;
}

std::string TokenMetadata(std::string_view token) { return std::string(kScheme) + std::string(token); }

std::string_view TokenOf(const grpc::CallbackServerContext& context) {
  const auto [begin, end] = context.client_metadata().equal_range(kTokenMetadataKey);
  if (begin == end || std::next(begin) != end) return {};
  const std::string_view value(begin->second.data(), begin->second.size());
  if (value.substr(0, kScheme.size()) != kScheme) return {};
  return value.substr(kScheme.size());
}

bool SameSecret(std::string_view given, std::string_view expected) {
  if (given.size() != expected.size()) return false;
  unsigned difference = 0;
  for (size_t i = 0; i < given.size(); ++i) difference |= static_cast<unsigned>(given[i] ^ expected[i]);
  return difference == 0;
}

}  // namespace yoio
