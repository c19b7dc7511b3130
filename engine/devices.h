// The devices of one process's ranks.
#ifndef YOIO_ENGINE_DEVICES_H_
#define YOIO_ENGINE_DEVICES_H_

#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/comm/communicator.h"
#include "engine/engine.h"
#include "engine/memory_plan.h"
#include "engine/model/plan.h"
#include "engine/node_ranks.h"
#include "kernels/backend.h"

namespace yoio {

// One backend for all ranks of the process, or one for each of them.
class Devices {
 public:
  Devices(kernels::DeviceKind kind, std::vector<std::unique_ptr<kernels::Backend>> backends)
      : kind_(kind), backends_(std::move(backends)) {}

  kernels::DeviceKind kind() const { return kind_; }
  // Of the process's ranks, in order.
  std::vector<kernels::Backend*> OfRanks(int count) const;
  // What the process's ranks may take beside what joins them, in order: those on one device share what is
  // left there.
  absl::StatusOr<DeviceMemory> Memory(const NodeRanks& ranks) const;

 private:
  kernels::DeviceKind kind_;
  std::vector<std::unique_ptr<kernels::Backend>> backends_;
};

// The devices that the options name. kCuda: as many GPUs as the node has ranks, FAILED_PRECONDITION naming
// both numbers when there are fewer. kAuto: these, when the build can use them and the model fits, else the
// CPU.
absl::StatusOr<Devices> ChooseDevices(const EngineOptions& options, const ModelConfig& config,
                                      const NodeRanks& ranks);

// How the ranks talk. INVALID_ARGUMENT for what cannot work on these devices and nodes.
absl::StatusOr<CommunicatorKind> ChooseCommunicator(const EngineOptions& options, kernels::DeviceKind device);

}  // namespace yoio

#endif  // YOIO_ENGINE_DEVICES_H_
