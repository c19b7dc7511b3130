#include "server/trace/otlp_values.h"

#include <algorithm>
#include <limits>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/tokenizer/utf8.h"
#include "server/address.h"

namespace yoio {
namespace {

// nullopt when a "%" is not followed by two digits.
std::optional<std::string> PercentDecode(absl::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (i + 2 >= text.size() || !absl::ascii_isxdigit(text[i + 1]) || !absl::ascii_isxdigit(text[i + 2])) {
      return std::nullopt;
    }
    decoded += absl::HexStringToBytes(text.substr(i + 1, 2));
    i += 2;
  }
  return decoded;
}

// nullopt unless each part is "key=value" with a key.
std::optional<KeyValues> ParseKeyValues(const std::string& text) {
  KeyValues parsed;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const absl::string_view pair = absl::StripAsciiWhitespace(part);
    if (pair.empty()) continue;
    const size_t equals = pair.find('=');
    if (equals == absl::string_view::npos) return std::nullopt;
    const auto key = PercentDecode(absl::StripAsciiWhitespace(pair.substr(0, equals)));
    const auto value = PercentDecode(absl::StripAsciiWhitespace(pair.substr(equals + 1)));
    if (!key || key->empty() || !value) return std::nullopt;
    parsed.emplace_back(*key, *value);
  }
  return parsed;
}

// What gRPC takes as metadata; "grpc-" is its own.
bool IsHeader(const std::string& key, const std::string& value) {
  const bool good_key = std::all_of(key.begin(), key.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.';
  });
  const bool good_value = std::all_of(value.begin(), value.end(), absl::ascii_isprint);
  return good_key && good_value && !absl::StartsWith(key, "grpc-") && !absl::EndsWith(key, "-bin");
}

}  // namespace

FlagValue EndpointValue(Endpoint& target) {
  auto set = [&target](const std::string& text) -> absl::Status {
    absl::string_view rest = text;
    Endpoint endpoint{.target = "", .tls = std::nullopt};
    if (absl::ConsumePrefix(&rest, "http://")) {
      endpoint.tls = false;
    } else if (absl::ConsumePrefix(&rest, "https://")) {
      endpoint.tls = true;
    }
    absl::ConsumeSuffix(&rest, "/");
    std::string host_and_port(rest);
    // As in any URL. Colons of an address in brackets are the host's.
    const size_t host_end = absl::StartsWith(rest, "[") ? std::min(rest.find(']'), rest.size()) : 0;
    const bool names_port = absl::StrContains(rest.substr(host_end), ":");
    if (endpoint.tls.has_value() && !names_port) host_and_port += *endpoint.tls ? ":443" : ":80";
    const absl::StatusOr<Address> address = ParseAddress(host_and_port);
    if (!address.ok() || address->port == 0 || absl::StrContains(rest, "/") || absl::StrContains(rest, "@")) {
      return absl::InvalidArgumentError("expected http://HOST:PORT or https://HOST:PORT, and no path");
    }
    endpoint.target = address->ToString();
    target = endpoint;
    return absl::OkStatus();
  };
  auto show = [&target] {
    return absl::StrCat(!target.tls ? "" : *target.tls ? "https://" : "http://", target.target);
  };
  return {set, show};
}

FlagValue BooleanValue(bool& target) {
  auto set = [&target](const std::string& text) {
    const std::string word = absl::AsciiStrToLower(text);
    if (word != "true" && word != "false") return absl::InvalidArgumentError("expected true or false");
    target = word == "true";
    return absl::OkStatus();
  };
  return {set, [&target] { return std::string(target ? "true" : "false"); }};
}

FlagValue MillisecondsValue(Duration& target, int64_t min) {
  auto set = [&target, min](const std::string& text) {
    int64_t milliseconds = 0;
    constexpr int64_t kMax = 24 * 3600 * 1000;
    if (!absl::SimpleAtoi(text, &milliseconds) || milliseconds < min || milliseconds > kMax) {
      return absl::InvalidArgumentError(absl::StrCat("expected milliseconds, from ", min, " to ", kMax));
    }
    target = std::chrono::milliseconds(milliseconds);
    return absl::OkStatus();
  };
  auto show = [&target] {
    return absl::StrCat(std::chrono::duration_cast<std::chrono::milliseconds>(target).count());
  };
  return {set, show};
}

FlagValue SizeValue(size_t& target, int64_t min, const std::string& unlimited) {
  auto set = [&target, min](const std::string& text) {
    int64_t value = 0;
    if (!absl::SimpleAtoi(text, &value) || value < min || value > std::numeric_limits<int32_t>::max()) {
      return absl::InvalidArgumentError(absl::StrCat("expected a whole number, at least ", min));
    }
    target = static_cast<size_t>(value);
    return absl::OkStatus();
  };
  auto show = [&target, unlimited] {
    return target == std::numeric_limits<size_t>::max() ? unlimited : absl::StrCat(target);
  };
  return {set, show};
}

FlagValue FractionValue(double& target) {
  auto set = [&target](const std::string& text) {
    double value = 0;
    if (!absl::SimpleAtod(text, &value) || !(value >= 0) || value > 1) {
      return absl::InvalidArgumentError("expected a number from 0 to 1");
    }
    target = value;
    return absl::OkStatus();
  };
  return {set, [&target] { return absl::StrCat(target); }};
}

FlagValue HeadersValue(KeyValues& target) {
  auto set = [&target](const std::string& text) {
    std::optional<KeyValues> parsed = ParseKeyValues(text);
    if (!parsed) return absl::InvalidArgumentError("expected key=value,key=value, percent-encoded");
    for (auto& [key, value] : *parsed) {
      absl::AsciiStrToLower(&key);
      if (!IsHeader(key, value)) {
        return absl::InvalidArgumentError("expected keys and values that gRPC takes as metadata");
      }
    }
    target = *std::move(parsed);
    return absl::OkStatus();
  };
  return {set, [&target] { return std::string(target.empty() ? "" : "set"); }};
}

FlagValue AttributesValue(KeyValues& target) {
  auto set = [&target](const std::string& text) {
    std::optional<KeyValues> parsed = ParseKeyValues(text);
    const bool good = parsed && std::all_of(parsed->begin(), parsed->end(), [](const auto& attribute) {
                        return IsValidUtf8(attribute.first) && IsValidUtf8(attribute.second);
                      });
    if (!good) return absl::InvalidArgumentError("expected key=value,key=value, percent-encoded UTF-8");
    target = *std::move(parsed);
    return absl::OkStatus();
  };
  auto show = [&target] {
    std::string text;
    for (const auto& [key, value] : target) {
      absl::StrAppend(&text, text.empty() ? "" : ",", key, "=", value);
    }
    return text;
  };
  return {set, show};
}

}  // namespace yoio
