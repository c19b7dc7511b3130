#include "client/commands/traceparent.h"

#include <cstdint>
#include <random>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace yoio {
namespace {

constexpr size_t kTraceDigits = 32, kSpanDigits = 16, kFlagDigits = 2;

// Of 64 bits, not all zeros.
uint64_t RandomBits(std::random_device& device) {
  while (true) {
    const uint64_t bits = (uint64_t{device()} << 32) | device();
    if (bits != 0) return bits;
  }
}

bool IsHex(const std::string& text, size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

bool IsZero(const std::string& text) { return text.find_first_not_of('0') == std::string::npos; }

}  // namespace

std::string DrawTraceparent() {
  std::random_device device;
  const uint64_t high = RandomBits(device), low = RandomBits(device), span = RandomBits(device);
  return absl::StrFormat("00-%016x%016x-%016x-01", high, low, span);
}

std::string CheckTraceparent(const std::string& value) {
  const std::vector<std::string> parts = absl::StrSplit(value, '-');
  const bool valid = parts.size() == 4 && parts[0] == "00" && IsHex(parts[1], kTraceDigits) &&
                     !IsZero(parts[1]) && IsHex(parts[2], kSpanDigits) && !IsZero(parts[2]) &&
                     IsHex(parts[3], kFlagDigits);
  return valid ? "" : "expected 00-TRACE-SPAN-FLAGS, with 32, 16 and 2 lower-case hexadecimal digits";
}

std::string TraceIdOf(const std::string& traceparent) {
  const std::vector<std::string> parts = absl::StrSplit(traceparent, '-');
  return parts[1];
}

}  // namespace yoio
