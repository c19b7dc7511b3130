#include "engine/files/json_cursor.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/files/strict_json.h"
#include "nlohmann/json.hpp"

namespace yoio {

JsonCursor::JsonCursor(const nlohmann::json& value, std::string origin)
    : value_(&value), origin_(std::move(origin)) {}

JsonCursor::JsonCursor(const nlohmann::json* value, const JsonCursor& parent, std::string path)
    : value_(value), origin_(parent.origin_), path_(std::move(path)) {}

JsonCursor JsonCursor::operator[](const std::string& key) const {
  const nlohmann::json* member = nullptr;
  if (value_ != nullptr && value_->is_object()) {
    const auto found = value_->find(key);
    if (found != value_->end()) member = &*found;
  }
  return JsonCursor(member, *this, path_.empty() ? key : absl::StrCat(path_, ".", key));
}

JsonCursor JsonCursor::operator[](size_t index) const {
  const bool exists = value_ != nullptr && value_->is_array() && index < value_->size();
  return JsonCursor(exists ? &(*value_)[index] : nullptr, *this, absl::StrCat(path_, "[", index, "]"));
}

bool JsonCursor::IsMissingOrNull() const { return IsMissing() || value_->is_null(); }

absl::Status JsonCursor::IsObject() const {
  return !IsMissing() && value_->is_object() ? absl::OkStatus() : WrongType("an object");
}

absl::Status JsonCursor::IsArray() const {
  return !IsMissing() && value_->is_array() ? absl::OkStatus() : WrongType("an array");
}

absl::StatusOr<std::string> JsonCursor::String() const {
  if (IsMissing() || !value_->is_string()) return WrongType("a string");
  return value_->get_ref<const std::string&>();
}

absl::StatusOr<bool> JsonCursor::Bool() const {
  if (IsMissing() || !value_->is_boolean()) return WrongType("true or false");
  return value_->get<bool>();
}

absl::StatusOr<int64_t> JsonCursor::Integer(int64_t low, int64_t high) const {
  if (IsMissing() || !value_->is_number_integer()) return WrongType("an integer");
  const bool fits = !value_->is_number_unsigned() ||
                    value_->get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()};
  const int64_t integer = fits ? value_->get<int64_t>() : 0;
  if (!fits || integer < low || integer > high) {
    return MustBe(low == high ? absl::StrCat(low) : absl::StrCat("between ", low, " and ", high));
  }
  return integer;
}

absl::StatusOr<double> JsonCursor::Number() const {
  if (IsMissing() || !value_->is_number()) return WrongType("a number");
  return value_->get<double>();
}

size_t JsonCursor::size() const { return !IsMissing() && value_->is_structured() ? value_->size() : 0; }

absl::Status JsonCursor::MustBe(const std::string& expected) const {
  if (IsMissing() || value_->is_structured() || value_->is_null()) return WrongType(expected);
  return MustBe(expected,
                value_->is_string() ? Quoted(value_->get_ref<const std::string&>()) : value_->dump());
}

absl::Status JsonCursor::WrongType(const std::string& expected) const {
  return MustBe(expected, IsMissing() ? "nothing" : JsonTypeName(*value_));
}

absl::Status JsonCursor::MustBe(const std::string& expected, const std::string& actual) const {
  const std::string place = path_.empty() ? "the document" : absl::StrCat("key ", Quoted(path_));
  return absl::InvalidArgumentError(
      absl::StrCat(origin_, ": ", place, " must be ", expected, ", got ", actual));
}

}  // namespace yoio
