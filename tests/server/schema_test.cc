// The schema stays what callers were promised: nothing in proto/schema.lock is renumbered, renamed, retyped
// or removed, and every file keeps the house rules.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include <cctype>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "server/version.h"

namespace yoio {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::MethodDescriptor;
using google::protobuf::ServiceDescriptor;

constexpr char kLockFile[] = YOIO_SOURCE_DIR "/proto/schema.lock";

class SchemaTest : public testing::Test {
 protected:
  SchemaTest() {
    std::ifstream in(YOIO_DESCRIPTORS, std::ios::binary);
    google::protobuf::FileDescriptorSet set;
    EXPECT_TRUE(set.ParseFromIstream(&in)) << YOIO_DESCRIPTORS;
    for (const auto& file : set.file()) {
      const FileDescriptor* built = pool_.BuildFile(file);
      EXPECT_NE(built, nullptr) << file.name();
      if (built != nullptr && built->package() != "google.protobuf") files_.push_back(built);
    }
  }

  // Those that callers bind to; the rest restates published files.
  std::vector<const FileDescriptor*> OwnFiles() const {
    std::vector<const FileDescriptor*> own;
    for (const FileDescriptor* file : files_) {
      if (file->package() == "yoio.v1") own.push_back(file);
    }
    return own;
  }

  google::protobuf::DescriptorPool pool_;
  std::vector<const FileDescriptor*> files_;
};

std::string TypeOf(const FieldDescriptor& field) {
  if (field.is_map()) {
    const Descriptor& entry = *field.message_type();
    return "map<" + TypeOf(*entry.map_key()) + "," + TypeOf(*entry.map_value()) + ">";
  }
  std::string type = field.type_name();
  if (field.message_type() != nullptr) type = field.message_type()->full_name();
  if (field.enum_type() != nullptr) type = field.enum_type()->full_name();
  if (field.is_repeated()) return "repeated " + type;
  if (field.real_containing_oneof() != nullptr) {
    return "oneof " + field.real_containing_oneof()->name() + " " + type;
  }
  return field.has_optional_keyword() ? "optional " + type : type;
}

void DumpEnum(const EnumDescriptor& type, std::set<std::string>& lines) {
  for (int i = 0; i < type.value_count(); ++i) {
    lines.insert("value " + type.full_name() + " " + std::to_string(type.value(i)->number()) + " " +
                 type.value(i)->name());
  }
}

void DumpMessage(const Descriptor& type, std::set<std::string>& lines) {
  lines.insert("message " + type.full_name());
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    lines.insert("field " + type.full_name() + " " + std::to_string(field.number()) + " " + field.name() +
                 " : " + TypeOf(field));
  }
  for (int i = 0; i < type.enum_type_count(); ++i) DumpEnum(*type.enum_type(i), lines);
  for (int i = 0; i < type.nested_type_count(); ++i) {
    if (!type.nested_type(i)->options().map_entry()) DumpMessage(*type.nested_type(i), lines);
  }
}

void DumpService(const ServiceDescriptor& service, std::set<std::string>& lines) {
  for (int i = 0; i < service.method_count(); ++i) {
    const MethodDescriptor& method = *service.method(i);
    lines.insert("rpc " + method.full_name() + " " + (method.client_streaming() ? "stream " : "") +
                 method.input_type()->full_name() + " -> " + (method.server_streaming() ? "stream " : "") +
                 method.output_type()->full_name());
  }
}

std::string UpperSnake(const std::string& pascal) {
  std::string snake;
  for (const char c : pascal) {
    if (std::isupper(c) && !snake.empty()) snake += '_';
    snake += static_cast<char>(std::toupper(c));
  }
  return snake;
}

template <typename Thing>
void ExpectComment(const Thing& thing, const std::string& name) {
  google::protobuf::SourceLocation location;
  ASSERT_TRUE(thing.GetSourceLocation(&location)) << name;
  EXPECT_FALSE(location.leading_comments.empty()) << name << " has no comment";
}

// All messages that can be inside `type`, itself included.
void Collect(const Descriptor& type, std::set<const Descriptor*>& found) {
  if (type.options().map_entry() || type.file()->package() != "yoio.v1" || !found.insert(&type).second)
    return;
  for (int i = 0; i < type.field_count(); ++i) {
    if (type.field(i)->message_type() != nullptr) Collect(*type.field(i)->message_type(), found);
  }
}

TEST_F(SchemaTest, NothingThatWasPromisedHasChanged) {
  std::set<std::string> now;
  for (const FileDescriptor* file : files_) {
    for (int i = 0; i < file->message_type_count(); ++i) DumpMessage(*file->message_type(i), now);
    for (int i = 0; i < file->enum_type_count(); ++i) DumpEnum(*file->enum_type(i), now);
    for (int i = 0; i < file->service_count(); ++i) DumpService(*file->service(i), now);
  }
  std::set<std::string> promised;
  std::ifstream in(kLockFile);
  for (std::string line; std::getline(in, line);) promised.insert(line);
  const std::string revision = "revision " + std::to_string(kSchemaRevision);
  EXPECT_EQ(promised.erase(revision), 1u) << kLockFile << " is not of " << revision;

  for (const std::string& line : promised) {
    EXPECT_TRUE(now.contains(line)) << "broken promise: " << line;
  }
  std::string added;
  for (const std::string& line : now) {
    if (!promised.contains(line)) added += line + "\n";
  }
  if (!added.empty()) {
    ADD_FAILURE() << "new: raise kSchemaRevision and the revision in " << kLockFile
                  << ", and add these lines to it:\n"
                  << added;
  }
}

TEST_F(SchemaTest, FilesNameTheirPackages) {
  for (const FileDescriptor* file : files_) {
    EXPECT_TRUE(file->options().has_go_package()) << file->name();
    EXPECT_TRUE(file->options().has_java_package()) << file->name();
    EXPECT_TRUE(file->options().java_multiple_files()) << file->name();
    EXPECT_EQ(file->syntax(), FileDescriptor::SYNTAX_PROTO3) << file->name();
  }
}

TEST_F(SchemaTest, EnumsStartUnspecifiedAndCarryTheirName) {
  for (const FileDescriptor* file : OwnFiles()) {
    for (int i = 0; i < file->enum_type_count(); ++i) {
      const EnumDescriptor& type = *file->enum_type(i);
      const std::string prefix = UpperSnake(type.name()) + "_";
      ASSERT_NE(type.FindValueByNumber(0), nullptr) << type.full_name();
      EXPECT_EQ(type.FindValueByNumber(0)->name(), prefix + "UNSPECIFIED");
      for (int j = 0; j < type.value_count(); ++j) {
        EXPECT_EQ(type.value(j)->name().rfind(prefix, 0), 0u) << type.value(j)->full_name();
        ExpectComment(*type.value(j), type.value(j)->full_name());
      }
    }
  }
}

TEST_F(SchemaTest, EveryCallHasItsOwnMessages) {
  for (const FileDescriptor* file : OwnFiles()) {
    for (int i = 0; i < file->service_count(); ++i) {
      ExpectComment(*file->service(i)->method(0), file->service(i)->full_name());
      for (int j = 0; j < file->service(i)->method_count(); ++j) {
        const MethodDescriptor& method = *file->service(i)->method(j);
        EXPECT_EQ(method.input_type()->full_name(), "yoio.v1." + method.name() + "Request");
        EXPECT_EQ(method.output_type()->full_name(), "yoio.v1." + method.name() + "Response");
        ExpectComment(method, method.full_name());
      }
    }
  }
}

TEST_F(SchemaTest, ScalarOptionsHavePresence) {
  std::set<const Descriptor*> requests;
  for (const FileDescriptor* file : OwnFiles()) {
    for (int i = 0; i < file->service_count(); ++i) {
      for (int j = 0; j < file->service(i)->method_count(); ++j) {
        Collect(*file->service(i)->method(j)->input_type(), requests);
      }
    }
  }
  EXPECT_GT(requests.size(), 15u);
  for (const Descriptor* type : requests) {
    for (int i = 0; i < type->field_count(); ++i) {
      EXPECT_TRUE(type->field(i)->is_repeated() || type->field(i)->has_presence())
          << type->field(i)->full_name() << " must be optional";
    }
  }
}

TEST_F(SchemaTest, EveryFieldIsExplained) {
  for (const FileDescriptor* file : files_) {
    for (int i = 0; i < file->message_type_count(); ++i) {
      const Descriptor& type = *file->message_type(i);
      for (int j = 0; j < type.field_count(); ++j) ExpectComment(*type.field(j), type.field(j)->full_name());
    }
  }
}

}  // namespace
}  // namespace yoio
