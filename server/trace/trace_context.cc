#include "server/trace/trace_context.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace yoio {
namespace {

constexpr std::string_view kLowerHex = "0123456789abcdef";
constexpr uint8_t kSampledFlag = 1;

// Reads 2 * bytes.size() digits of lower-case hex at the front of `text` and takes them off.
template <size_t n>
bool TakeHex(std::string_view& text, std::array<uint8_t, n>& bytes) {
  if (text.size() < 2 * n) return false;
  for (size_t i = 0; i < n; ++i) {
    const size_t high = kLowerHex.find(text[2 * i]);
    const size_t low = kLowerHex.find(text[2 * i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) return false;
    bytes[i] = static_cast<uint8_t>(high << 4 | low);
  }
  text.remove_prefix(2 * n);
  return true;
}

bool TakeDash(std::string_view& text) {
  if (text.empty() || text[0] != '-') return false;
  text.remove_prefix(1);
  return true;
}

template <size_t n>
bool IsZero(const std::array<uint8_t, n>& bytes) {
  return bytes == std::array<uint8_t, n>{};
}

template <size_t n>
void AppendHex(const std::array<uint8_t, n>& bytes, std::string& text) {
  for (const uint8_t byte : bytes) {
    text += kLowerHex[byte >> 4];
    text += kLowerHex[byte & 15];
  }
}

template <size_t n>
bool TakeBytes(std::string_view& from, std::array<uint8_t, n>& bytes) {
  if (from.size() < n) return false;
  std::copy_n(from.begin(), n, bytes.begin());
  from.remove_prefix(n);
  return true;
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

// All that was sent as tracestate, as one; empty unless it is one.
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

}  // namespace

std::optional<TraceId> ParseTraceparent(std::string_view text) {
  std::array<uint8_t, 1> version{};
  std::array<uint8_t, 1> flags{};
  TraceId id;
  if (!TakeHex(text, version) || version[0] == 0xff || !TakeDash(text) || !TakeHex(text, id.trace) ||
      !TakeDash(text) || !TakeHex(text, id.span) || !TakeDash(text) || !TakeHex(text, flags)) {
    return std::nullopt;
  }
  const bool ends_well = text.empty() || (version[0] > 0 && text[0] == '-');
  if (!ends_well || IsZero(id.trace) || IsZero(id.span)) return std::nullopt;
  id.sampled = flags[0] & kSampledFlag;
  return id;
}

std::string FormatTraceparent(const TraceId& id) {
  std::string text = "00-";
  AppendHex(id.trace, text);
  text += '-';
  AppendHex(id.span, text);
  text += id.sampled ? "-01" : "-00";
  return text;
}

std::optional<TraceId> ParseGrpcTraceBin(std::string_view bytes) {
  std::array<uint8_t, 1> head{};
  std::array<uint8_t, 1> flags{};
  TraceId id;
  if (!TakeBytes(bytes, head) || head[0] != 0) return std::nullopt;
  // Fields come in the order of their numbers; behind one that is not known nothing can be read.
  for (int last = -1; TakeBytes(bytes, head) && head[0] > last && head[0] <= 2; last = head[0]) {
    const bool whole = head[0] == 0   ? TakeBytes(bytes, id.trace)
                       : head[0] == 1 ? TakeBytes(bytes, id.span)
                                      : TakeBytes(bytes, flags);
    if (!whole) return std::nullopt;
  }
  if (IsZero(id.trace) || IsZero(id.span)) return std::nullopt;
  id.sampled = flags[0] & kSampledFlag;
  return id;
}

bool IsTraceState(std::string_view text) {
  if (text.size() > kMaxTraceStateBytes) return false;
  std::set<std::string_view> keys;
  int members = 0;
  while (true) {
    const size_t comma = text.find(',');
    const std::string_view member = WithoutBlanks(text.substr(0, comma));
    if (!member.empty()) {
      const size_t equals = member.find('=');
      if (++members > kMaxTraceStateMembers || equals == std::string_view::npos) return false;
      const std::string_view key = member.substr(0, equals);
      if (!IsStateKey(key) || !IsStateValue(member.substr(equals + 1)) || !keys.insert(key).second) {
        return false;
      }
    }
    if (comma == std::string_view::npos) return true;
    text.remove_prefix(comma + 1);
  }
}

std::optional<TraceParent> ReadTraceParent(const CallMetadata& metadata) {
  if (const auto text = OnlyValue(metadata, "traceparent")) {
    if (const std::optional<TraceId> id = ParseTraceparent(*text)) {
      return TraceParent{*id, ReadTraceState(metadata)};
    }
  }
  const auto bytes = OnlyValue(metadata, "grpc-trace-bin");
  if (!bytes) return std::nullopt;
  const std::optional<TraceId> id = ParseGrpcTraceBin(*bytes);
  if (!id) return std::nullopt;
  return TraceParent{*id, ""};
}

}  // namespace yoio
