// AdminService.Profile: the steps of the next while as a timeline.
#ifndef YOIO_SERVER_ADMIN_PROFILE_H_
#define YOIO_SERVER_ADMIN_PROFILE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "server/admin/answer_stream.h"
#include "yoio/v1/admin.pb.h"

namespace yoio {

// INVALID_ARGUMENT for a value out of range; UNIMPLEMENTED for an engine without a recorder. The engine
// outlives the answer.
absl::StatusOr<std::unique_ptr<AnswerSource<v1::ProfileResponse>>> AnswerProfile(
    const Engine& engine, const v1::ProfileRequest& request);

}  // namespace yoio

#endif  // YOIO_SERVER_ADMIN_PROFILE_H_
