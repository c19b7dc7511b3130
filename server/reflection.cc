#include "server/reflection.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <set>
#include <string>

#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "yoio/v1/inference.grpc.pb.h"

namespace yoio {
namespace {

namespace reflection = ::grpc::reflection::v1alpha;
using google::protobuf::DescriptorPool;
using google::protobuf::FileDescriptor;
using Request = reflection::ServerReflectionRequest;
using Response = reflection::ServerReflectionResponse;
using Reactor = grpc::ServerBidiReactor<Request, Response>;

// Adds `file` and all that it imports, each once.
void AddFile(const FileDescriptor& file, std::set<std::string>& added,
             reflection::FileDescriptorResponse& response) {
  if (!added.insert(file.name()).second) return;
  google::protobuf::FileDescriptorProto proto;
  file.CopyTo(&proto);
  response.add_file_descriptor_proto(proto.SerializeAsString());
  for (int i = 0; i < file.dependency_count(); ++i) AddFile(*file.dependency(i), added, response);
}

// `file` may be null: `name` was not found.
void AnswerWithFile(const FileDescriptor* file, const std::string& name, Response& response) {
  if (file == nullptr) {
    response.mutable_error_response()->set_error_code(grpc::NOT_FOUND);
    response.mutable_error_response()->set_error_message(name + ": not found");
    return;
  }
  std::set<std::string> added;
  AddFile(*file, added, *response.mutable_file_descriptor_response());
}

void Answer(const Request& request, Response& response) {
  response.set_valid_host(request.host());
  *response.mutable_original_request() = request;
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  switch (request.message_request_case()) {
    case Request::kFileByFilename:
      return AnswerWithFile(pool.FindFileByName(request.file_by_filename()), request.file_by_filename(),
                            response);
    case Request::kFileContainingSymbol:
      return AnswerWithFile(pool.FindFileContainingSymbol(request.file_containing_symbol()),
                            request.file_containing_symbol(), response);
    case Request::kFileContainingExtension:
      return AnswerWithFile(nullptr, request.file_containing_extension().containing_type(), response);
    case Request::kAllExtensionNumbersOfType:
      return AnswerWithFile(nullptr, request.all_extension_numbers_of_type(), response);
    case Request::kListServices:
      for (const char* name :
           {reflection::ServerReflection::service_full_name(), v1::InferenceService::service_full_name()}) {
        response.mutable_list_services_response()->add_service()->set_name(name);
      }
      return;
    case Request::MESSAGE_REQUEST_NOT_SET:
      response.mutable_error_response()->set_error_code(grpc::INVALID_ARGUMENT);
      response.mutable_error_response()->set_error_message("message_request: required");
  }
}

// Answers one question after another until the client has no more. Owned by itself.
class AnswerReactor final : public Reactor {
 public:
  AnswerReactor() { StartRead(&request_); }
  explicit AnswerReactor(const grpc::Status& refusal) { Finish(refusal); }

  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    response_.Clear();
    Answer(request_, response_);
    StartWrite(&response_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    StartRead(&request_);
  }
  void OnDone() override { delete this; }

 private:
  Request request_;
  Response response_;
};

class ReflectionService final : public reflection::ServerReflection::CallbackService {
 public:
  explicit ReflectionService(ServingCore& core) : core_(core) {}

  Reactor* ServerReflectionInfo(grpc::CallbackServerContext* context) override {
    SimpleCall call(core_, *context, "ServerReflectionInfo");
    const absl::Status status = call.Identify().status();
    if (!status.ok()) return new AnswerReactor(call.Close(status));
    return new AnswerReactor;
  }

 private:
  ServingCore& core_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeReflectionService(ServingCore& core) {
  return std::make_unique<ReflectionService>(core);
}

}  // namespace yoio
