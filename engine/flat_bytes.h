// Plain structs as bytes and back, for what travels between the processes of one engine.
//
// The layout: 32-bit words, little-endian. A number of 64 bits is two words, the low one first; a float or
// double is its bits; a bool is 0 or 1; an enum is its number; a duration is its nanoseconds, 64 bits; a
// vector is its length, then its elements; an array is its elements alone; a string is its length in bytes,
// then these, filled up to a whole word with zeros; a struct is its fields, in the order of its
// ForEachField(archive, value), which calls archive(field, ...) and stands in namespace yoio. Equal values
// give equal bytes.
#ifndef YOIO_ENGINE_FLAT_BYTES_H_
#define YOIO_ENGINE_FLAT_BYTES_H_

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"

namespace yoio {

// For ForEachField: one template serves `const Struct` (writing) and `Struct` (reading).
template <typename T, typename Struct>
concept Is = std::same_as<std::remove_const_t<T>, Struct>;

class FlatWriter {
 public:
  template <typename... Fields>
  void operator()(const Fields&... fields) {
    (Write(fields), ...);
  }
  std::string Take() { return std::move(bytes_); }

 private:
  void Write(uint32_t word) {
    const char bytes[4] = {static_cast<char>(word), static_cast<char>(word >> 8),
                           static_cast<char>(word >> 16), static_cast<char>(word >> 24)};
    bytes_.append(bytes, sizeof(bytes));
  }
  void Write(int32_t value) { Write(static_cast<uint32_t>(value)); }
  void Write(bool value) { Write(uint32_t{value}); }
  void Write(float value) { Write(std::bit_cast<uint32_t>(value)); }
  void Write(uint64_t value) {
    Write(static_cast<uint32_t>(value));
    Write(static_cast<uint32_t>(value >> 32));
  }
  void Write(int64_t value) { Write(static_cast<uint64_t>(value)); }
  void Write(double value) { Write(std::bit_cast<uint64_t>(value)); }
  void Write(Duration value) { Write(int64_t{std::chrono::nanoseconds(value).count()}); }
  void Write(const std::string& text) {
    Write(static_cast<uint32_t>(text.size()));
    bytes_.append(text);
    bytes_.append((4 - text.size() % 4) % 4, '\0');
  }
  template <typename T>
  void Write(const std::vector<T>& values) {
    Write(static_cast<uint32_t>(values.size()));
    for (const T& value : values) Write(value);
  }
  template <typename T, size_t kSize>
  void Write(const std::array<T, kSize>& values) {
    for (const T& value : values) Write(value);
  }
  template <typename T>
  requires std::is_enum_v<T>
  void Write(T value) { Write(static_cast<uint32_t>(value)); }
  template <typename T>
  requires std::is_class_v<T>
  void Write(const T& value) { ForEachField(*this, value); }

  std::string bytes_;
};

// After the first failure every word reads as 0 and the failure stays.
class FlatReader {
 public:
  // `what` names the bytes in errors: a literal. `bytes` outlive the reader.
  FlatReader(const char* what, std::string_view bytes) : what_(what), bytes_(bytes) {}

  template <typename... Fields>
  void operator()(Fields&... fields) {
    (Read(fields), ...);
  }

  // OK when everything has been read, and nothing is left; INVALID_ARGUMENT otherwise.
  absl::Status Finish() const {
    if (failed_ || at_ == bytes_.size()) return status_;
    return absl::InvalidArgumentError(absl::StrCat(what_, ": ", bytes_.size() - at_, " bytes after its end"));
  }

 private:
  void Fail(const char* what) {
    if (failed_) return;
    failed_ = true;
    status_ = absl::InvalidArgumentError(
        absl::StrCat(what_, " of ", bytes_.size(), " bytes: ", what, " at byte ", at_));
  }

  void Read(uint32_t& word) {
    word = 0;
    if (bytes_.size() - at_ < 4) Fail("truncated");
    if (failed_) return;
    for (int i = 0; i < 4; ++i) word |= uint32_t{static_cast<uint8_t>(bytes_[at_ + i])} << (8 * i);
    at_ += 4;
  }
  void Read(int32_t& value) {
    uint32_t word;
    Read(word);
    value = static_cast<int32_t>(word);
  }
  void Read(bool& value) {
    uint32_t word;
    Read(word);
    if (word > 1) Fail("neither true nor false");
    value = word == 1;
  }
  void Read(float& value) {
    uint32_t word;
    Read(word);
    value = std::bit_cast<float>(word);
  }
  void Read(uint64_t& value) {
    uint32_t low, high;
    (*this)(low, high);
    value = uint64_t{high} << 32 | low;
  }
  void Read(int64_t& value) {
    uint64_t bits;
    Read(bits);
    value = static_cast<int64_t>(bits);
  }
  void Read(double& value) {
    uint64_t bits;
    Read(bits);
    value = std::bit_cast<double>(bits);
  }
  void Read(Duration& value) {
    int64_t nanoseconds;
    Read(nanoseconds);
    value = std::chrono::nanoseconds(nanoseconds);
  }
  void Read(std::string& text) {
    uint32_t size;
    Read(size);
    const size_t left = bytes_.size() - at_;
    const size_t padding = (4 - size % 4) % 4;
    if (size > left || padding > left - size) Fail("a text beyond the end");
    if (failed_) return;
    text.assign(bytes_.substr(at_, size));
    if (bytes_.substr(at_ + size, padding).find_first_not_of('\0') != std::string_view::npos) {
      Fail("no zeros behind a text");
    }
    at_ += size + padding;
  }
  // Grows as elements are found: a lying length cannot make it allocate more than a few times the bytes.
  template <typename T>
  void Read(std::vector<T>& values) {
    uint32_t size;
    Read(size);
    if (size > (bytes_.size() - at_) / 4) Fail("a length beyond the end");
    for (uint32_t i = 0; i < size && !failed_; ++i) Read(values.emplace_back());
  }
  template <typename T, size_t kSize>
  void Read(std::array<T, kSize>& values) {
    for (T& value : values) Read(value);
  }
  // Any number: whether it names a value is for the caller to check.
  template <typename T>
  requires std::is_enum_v<T>
  void Read(T& value) {
    uint32_t word;
    Read(word);
    value = static_cast<T>(word);
  }
  template <typename T>
  requires std::is_class_v<T>
  void Read(T& value) { ForEachField(*this, value); }

  const char* const what_;
  const std::string_view bytes_;
  size_t at_ = 0;
  bool failed_ = false;
  absl::Status status_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_FLAT_BYTES_H_
