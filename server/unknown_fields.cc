#include "server/unknown_fields.h"

#include <google/protobuf/message.h>
#include <google/protobuf/unknown_field_set.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/errors.h"

namespace yoio {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr size_t kMaxNamed = 8;

// Walks one request. Names are paths of field names; an unknown field is `#` and its number.
class Finder {
 public:
  void Visit(const Message& message, const std::string& prefix) {
    const Reflection& reflection = *message.GetReflection();
    const auto& unknown = reflection.GetUnknownFields(message);
    for (int i = 0; i < unknown.field_count(); ++i) {
      Add(absl::StrCat("unknown field: ", prefix, "#", unknown.field(i).number()));
    }
    std::vector<const FieldDescriptor*> fields;
    reflection.ListFields(message, &fields);
    for (const FieldDescriptor* field : fields) VisitField(message, *field, prefix);
  }

  absl::Status Result() const {
    if (found_.empty()) return absl::OkStatus();
    return WithReason(absl::StatusCode::kUnimplemented, "UNKNOWN_FIELD", absl::StrJoin(found_, "; "));
  }

 private:
  void VisitField(const Message& message, const FieldDescriptor& field, const std::string& prefix) {
    const Reflection& reflection = *message.GetReflection();
    const std::string path = absl::StrCat(prefix, field.name());
    const int count = field.is_repeated() ? reflection.FieldSize(message, &field) : 1;
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      for (int i = 0; i < count && found_.size() < kMaxNamed; ++i) {
        Visit(field.is_repeated() ? reflection.GetRepeatedMessage(message, &field, i)
                                  : reflection.GetMessage(message, &field),
              path + ".");
      }
    } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
      for (int i = 0; i < count && found_.size() < kMaxNamed; ++i) {
        const int value = field.is_repeated() ? reflection.GetRepeatedEnumValue(message, &field, i)
                                              : reflection.GetEnumValue(message, &field);
        if (field.enum_type()->FindValueByNumber(value) == nullptr) {
          Add(absl::StrCat("unknown value of ", path, ": ", value));
        }
      }
    }
  }

  void Add(std::string what) {
    if (found_.size() < kMaxNamed) found_.push_back(std::move(what));
  }

  std::vector<std::string> found_;
};

}  // namespace

absl::Status CheckNothingUnknown(const Message& message) {
  Finder finder;
  finder.Visit(message, "");
  return finder.Result();
}

}  // namespace yoio
