#include "server/trace/trace_context.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <iterator>

namespace yoio {
namespace {

constexpr uint8_t kSampledFlag = 1;

// Where the parts of a traceparent are. Later versions put more behind them.
constexpr size_t kTraceAt = 3;
constexpr size_t kSpanAt = 36;
constexpr size_t kFlagsAt = 53;
constexpr size_t kTraceparentSize = 55;

// Four bytes from eight digits of lower-case hex; false when there is anything else. All at once, since every
// call that is traced passes here, sampled or not.
bool ParseEightDigits(const char* digits, uint32_t& bytes) {
  static_assert(std::endian::native == std::endian::little);
  constexpr uint64_t kOnes = 0x0101010101010101u;
  uint64_t text = 0;
  std::memcpy(&text, digits, sizeof(text));
  const uint64_t letters = (text >> 6) & kOnes;
  const uint64_t values = (text & 15 * kOnes) + 9 * letters;
  const uint64_t spelled = values + '0' * kOnes + ('a' - '0' - 10) * letters;
  const uint64_t above_nine = (values + 6 * kOnes) >> 4 & kOnes;
  if (spelled != text || above_nine != letters || (values & 0xf0 * kOnes) != 0) return false;
  uint64_t pairs = (values << 4 | values >> 8) & 0x00ff00ff00ff00ffu;  // every other byte is one of the four
  pairs = (pairs | pairs >> 8) & 0x0000ffff0000ffffu;
  bytes = static_cast<uint32_t>(pairs | pairs >> 16);
  return true;
}

template <size_t n>
bool ParseHex(const char* digits, std::array<uint8_t, n>& bytes) {
  static_assert(n % 4 == 0);
  std::array<uint32_t, n / 4> fours{};
  bool good = true;
  for (size_t i = 0; i < fours.size(); ++i) good &= ParseEightDigits(digits + 8 * i, fours[i]);
  bytes = std::bit_cast<std::array<uint8_t, n>>(fours);
  return good;
}

template <size_t n>
bool IsZero(const std::array<uint8_t, n>& bytes) {
  return bytes == std::array<uint8_t, n>{};
}

bool IsLowerOrDigit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

bool IsStateKeyPart(std::string_view part, size_t max_size) {
  if (part.empty() || part.size() > max_size || !IsLowerOrDigit(part[0])) return false;
  return std::all_of(part.begin(), part.end(), [](char c) {
    return IsLowerOrDigit(c) || c == '_' || c == '-' || c == '*' || c == '/';
  });
}

// "vendor", or "tenant@vendor".
bool IsStateKey(std::string_view key) {
  const size_t at = key.find('@');
  if (at == std::string_view::npos) return IsStateKeyPart(key, 256);
  return IsStateKeyPart(key.substr(0, at), 241) && IsStateKeyPart(key.substr(at + 1), 14);
}

bool IsStateValue(std::string_view value) {
  if (value.empty() || value.size() > 256 || value.back() == ' ') return false;
  return std::all_of(value.begin(), value.end(),
                     [](char c) { return c >= ' ' && c <= '~' && c != ',' && c != '='; });
}

std::string_view WithoutBlanks(std::string_view text) {
  constexpr std::string_view kBlanks = " \t";
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}

// The only value of `key`; nullopt for none or several.
std::optional<std::string_view> OnlyValue(const CallMetadata& metadata, const char* key) {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return std::nullopt;
  const auto next = std::next(found);
  if (next != metadata.end() && next->first == found->first) return std::nullopt;
  return std::string_view(found->second.data(), found->second.size());
}

}  // namespace

std::optional<TraceId> ParseTraceparent(std::string_view text) {
  if (text.size() < kTraceparentSize) return std::nullopt;
  const std::array<char, 8> ends = {text[0], text[1], text[kFlagsAt], text[kFlagsAt + 1], '0', '0', '0', '0'};
  std::array<uint8_t, 4> version_and_flags{};
  TraceId id;
  const bool digits = ParseHex(ends.data(), version_and_flags) &&
                      ParseHex(text.data() + kTraceAt, id.trace) && ParseHex(text.data() + kSpanAt, id.span);
  const bool dashes = text[kTraceAt - 1] == '-' && text[kSpanAt - 1] == '-' && text[kFlagsAt - 1] == '-';
  const uint8_t version = version_and_flags[0];
  if (!digits || !dashes || version == 0xff || IsZero(id.trace) || IsZero(id.span)) return std::nullopt;
  const bool ends_well = text.size() == kTraceparentSize || (version > 0 && text[kTraceparentSize] == '-');
  if (!ends_well) return std::nullopt;
  id.sampled = version_and_flags[1] & kSampledFlag;
  return id;
}

bool IsTraceState(std::string_view text) {
  if (text.size() > kMaxTraceStateBytes) return false;
  std::array<std::string_view, kMaxTraceStateMembers> keys;
  size_t members = 0;
  while (true) {
    const size_t comma = text.find(',');
    const std::string_view member = WithoutBlanks(text.substr(0, comma));
    if (!member.empty()) {
      const size_t equals = member.find('=');
      if (members == keys.size() || equals == std::string_view::npos) return false;
      const std::string_view key = member.substr(0, equals);
      const bool again = std::find(keys.begin(), keys.begin() + members, key) != keys.begin() + members;
      if (again || !IsStateKey(key) || !IsStateValue(member.substr(equals + 1))) return false;
      keys[members++] = key;
    }
    if (comma == std::string_view::npos) return true;
    text.remove_prefix(comma + 1);
  }
}

std::optional<TraceId> ReadTraceParent(const CallMetadata& metadata) {
  const std::optional<std::string_view> text = OnlyValue(metadata, "traceparent");
  return text ? ParseTraceparent(*text) : std::nullopt;
}

std::string ReadTraceState(const CallMetadata& metadata) {
  std::string state;
  const auto [begin, end] = metadata.equal_range("tracestate");
  for (auto sent = begin; sent != end; ++sent) {
    if (state.size() + sent->second.size() > kMaxTraceStateBytes) return "";
    if (!state.empty()) state += ',';
    state.append(sent->second.data(), sent->second.size());
  }
  return IsTraceState(state) ? state : "";
}

}  // namespace yoio
