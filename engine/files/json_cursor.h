// Reading a JSON document by type, with errors that say where and what was expected.
#ifndef YOIO_ENGINE_FILES_JSON_CURSOR_H_
#define YOIO_ENGINE_FILES_JSON_CURSOR_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"

namespace yoio {

// One value of a document, or the place where one is missing. Every error is INVALID_ARGUMENT and reads
// "config.json: key 'hidden_size' must be an integer, got string". Does not own the document. Cheap, but it
// carries its path: walk tens of thousands of values by hand.
class JsonCursor {
 public:
  // The outermost value of a document called `origin`.
  JsonCursor(const nlohmann::json& value, std::string origin);

  // A member; missing when there is none, or when this is not an object.
  JsonCursor operator[](const std::string& key) const;
  // An element; missing when there is none, or when this is not an array.
  JsonCursor operator[](size_t index) const;

  bool IsMissing() const { return value_ == nullptr; }
  bool IsMissingOrNull() const;

  absl::Status IsObject() const;
  absl::Status IsArray() const;
  absl::StatusOr<std::string> String() const;
  absl::StatusOr<bool> Bool() const;
  absl::StatusOr<int64_t> Integer(int64_t low, int64_t high) const;
  // Integers count as numbers.
  absl::StatusOr<double> Number() const;

  // Of an array or object; 0 for anything else.
  size_t size() const;
  // Not to be called on a missing value.
  const nlohmann::json& value() const { return *value_; }

  // The error for a value of the right type that is not acceptable; `actual` where the value itself, or its
  // type if it is no scalar, does not say enough.
  absl::Status MustBe(const std::string& expected) const;
  absl::Status MustBe(const std::string& expected, const std::string& actual) const;

 private:
  JsonCursor(const nlohmann::json* value, const JsonCursor& parent, std::string path);
  absl::Status WrongType(const std::string& expected) const;

  const nlohmann::json* value_;
  std::string origin_;
  std::string path_;  // "model.vocab", "added_tokens[3].id"; empty for the document
};

}  // namespace yoio

#endif  // YOIO_ENGINE_FILES_JSON_CURSOR_H_
