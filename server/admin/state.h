// AdminService.DumpState: what the engine holds now.
#ifndef YOIO_SERVER_ADMIN_STATE_H_
#define YOIO_SERVER_ADMIN_STATE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "server/admin/answer_stream.h"
#include "yoio/v1/admin.pb.h"

namespace yoio {

// INVALID_ARGUMENT for a value out of range. An engine whose thread does not answer within a second is shown
// as far as it is known without it, and the answer then ends UNAVAILABLE. `draining` is what the
// process knows of that. `engine` outlives the answer.
absl::StatusOr<std::unique_ptr<AnswerSource<v1::DumpStateResponse>>> AnswerState(
    Engine& engine, bool draining, const v1::DumpStateRequest& request);

}  // namespace yoio

#endif  // YOIO_SERVER_ADMIN_STATE_H_
