// AdminService.GetTraces: requests of the flight recorder, and the steps they were in.
#ifndef YOIO_SERVER_ADMIN_TRACES_H_
#define YOIO_SERVER_ADMIN_TRACES_H_

#include <memory>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "server/admin/answer_stream.h"
#include "server/convert.h"
#include "yoio/v1/admin.pb.h"

namespace yoio {

// INVALID_ARGUMENT for a value out of range, NOT_FOUND for an id that the recorder does not know, UNIMPLEMENTED
// for an engine without a recorder. What is named outlives the answer.
absl::StatusOr<std::unique_ptr<AnswerSource<v1::GetTracesResponse>>> AnswerTraces(
    const Engine& engine, const ServedModel& model, const v1::GetTracesRequest& request);

}  // namespace yoio

#endif  // YOIO_SERVER_ADMIN_TRACES_H_
