#include "server/follower_token.h"

#include <algorithm>
#include <fstream>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace yoio {
namespace {

constexpr size_t kMinTokenBytes = 16;
constexpr size_t kMaxTokenBytes = 4096;

}  // namespace

absl::StatusOr<std::string> ReadFollowerToken(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string token(kMaxTokenBytes + 2, '\0');  // a line's end too
  file.read(token.data(), static_cast<std::streamsize>(token.size()));
  if (!file.eof() && file.fail()) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  token.resize(static_cast<size_t>(file.gcount()));
  absl::StripTrailingAsciiWhitespace(&token);
  if (token.size() < kMinTokenBytes || token.size() > kMaxTokenBytes ||
      !std::all_of(token.begin(), token.end(), absl::ascii_isgraph)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected one line of ", kMinTokenBytes, " to ",
                                                   kMaxTokenBytes, " visible ASCII characters"));
  }
  return token;
}

std::string TokenMetadata(std::string_view token) { return "Bearer " + std::string(token); }

bool SameSecret(std::string_view given, std::string_view expected) {
  if (given.size() != expected.size()) return false;
  unsigned difference = 0;
  for (size_t i = 0; i < given.size(); ++i) difference |= static_cast<unsigned>(given[i] ^ expected[i]);
  return difference == 0;
}

}  // namespace yoio
