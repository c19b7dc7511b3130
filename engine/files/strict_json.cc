#include "engine/files/strict_json.h"

#include <exception>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace yoio {
namespace {

using Json = nlohmann::json;

// Builds the document from parser events. Unlike the library's own builder it refuses deep nesting and
// repeated keys, and its cost stays linear (the library's callback parser scans the parent after each child).
class DocumentBuilder : public Json::json_sax_t {
 public:
  Json& document() { return document_; }
  const std::string& error() const { return error_; }

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t&) override { return Add(value); }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool binary(binary_t&) override { return Fail("binary values are not JSON"); }

  bool start_object(size_t) override { return Open(Json::object()); }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& name) override {
    auto [position, inserted] = open_.back()->get_ref<Json::object_t&>().emplace(name, nullptr);
    if (!inserted) return Fail(absl::StrCat("key ", Quoted(name), " appears twice in one object"));
    member_ = &position->second;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return Fail(absl::StrCat("not valid JSON near byte ", position));
  }

 private:
  // Puts `value` where the parser stands and returns its place, which holds until its parent's next child.
  Json* Place(Json value) {
    if (open_.empty()) return &(document_ = std::move(value));
    Json& parent = *open_.back();
    if (parent.is_array()) return &parent.get_ref<Json::array_t&>().emplace_back(std::move(value));
    return &(*member_ = std::move(value));
  }

  bool Add(Json value) {
    Place(std::move(value));
    return true;
  }

  bool Open(Json container) {
    if (open_.size() >= kMaxJsonDepth) return Fail(absl::StrCat("nested deeper than ", kMaxJsonDepth));
    open_.push_back(Place(std::move(container)));
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  bool Fail(std::string error) {
    error_ = std::move(error);
    return false;
  }

  Json document_;
  std::vector<Json*> open_;  // the containers not yet closed, outermost first
  Json* member_ = nullptr;   // value of the key just read
  std::string error_;
};

}  // namespace

absl::StatusOr<Json> ParseJson(std::string_view text, const std::string& origin) {
  DocumentBuilder builder;
  try {
    if (Json::sax_parse(text, &builder)) return std::move(builder.document());
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(origin, ": ", e.what()));
  }
  return absl::InvalidArgumentError(absl::StrCat(origin, ": ", builder.error()));
}

std::string JsonTypeName(const Json& value) {
  return value.is_number_integer() ? "integer" : value.type_name();
}

std::string Quoted(std::string_view text) {
  constexpr size_t kLongest = 120;
  const bool cut = text.size() > kLongest;
  return absl::StrCat("'", absl::CHexEscape(std::string(text.substr(0, kLongest))), cut ? "...'" : "'");
}

}  // namespace yoio
