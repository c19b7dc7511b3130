// What the leader of an engine's processes and its followers tell each other, as structs and as bytes.
//
//   follower                      leader
//     Hello          ->                     who I am and what I have
//                    <-           Welcome   your ranks, how large everything is, where the ranks meet
//     Loaded         ->                     my ranks are up
//                    <-           StepPlan  one for each step
//     Ended          ->                     a rank of mine has ended a step, and where its time went
//                    <-           Bye       no more steps will come
//
// Whoever cannot go on breaks the pipe with the reason: a refusal is no message of its own.
#ifndef YOIO_ENGINE_GROUP_MESSAGES_H_
#define YOIO_ENGINE_GROUP_MESSAGES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/comm/communicator.h"
#include "engine/engine.h"
#include "engine/memory_plan.h"
#include "engine/step_plan.h"
#include "engine/step_times.h"
#include "kernels/backend.h"

namespace yoio {

struct Hello {
  std::string version;  // of the program
  int32_t node_rank = 0;
  int32_t nnodes = 0;
  int32_t tensor_parallel_size = 0;
  std::string model;         // the weights' fingerprint, or why there are none
  uint64_t config_hash = 0;  // of config.json with its override
  kernels::DeviceKind device = kernels::DeviceKind::kCpu;
  std::string device_name;
  std::vector<int64_t> available_bytes;  // of each rank
  int64_t host_bytes = 0;                // of the host's memory, for each rank
};

struct Welcome {
  int32_t first_rank = 0;
  CommunicatorKind communicator = CommunicatorKind::kSocket;
  std::string ticket;  // of the rendezvous
  bool dummy_weights = false;
  IndexSharding index_sharding = IndexSharding::kRank0;
  bool check_index = false;
  int64_t step_timeout_ns = 0;
  int32_t max_model_len = 0;
  StepLimits limits;
  CacheGeometry cache;
};

struct Loaded {};

struct Ended {
  int32_t rank = 0;
  int64_t step = 0;
  StepTimes times;
};

struct Bye {};

using GroupMessage = std::variant<Hello, Welcome, Loaded, StepPlan, Ended, Bye>;

// A fixed layout (engine/flat_bytes.h), whose first word names its version and whose second the kind of
// message. Equal messages give equal bytes.
std::string SerializeMessage(const GroupMessage& message);
std::string SerializeMessage(const StepPlan& plan);

// INVALID_ARGUMENT when the bytes are no message: truncated, too long, of another version, with numbers that
// name no value, or with sizes that no engine has.
absl::StatusOr<GroupMessage> DeserializeMessage(std::string_view bytes);

// A hash of every field: processes that read the same config.json with the same override agree on it.
uint64_t HashOf(const ModelConfig& config);

}  // namespace yoio

#endif  // YOIO_ENGINE_GROUP_MESSAGES_H_
