#include "engine/devices.h"

#include <string>

#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/host_resources.h"
#include "base/status.h"

namespace yoio {
namespace {

absl::StatusOr<Devices> AllGpus(const EngineOptions& options, const NodeRanks& ranks) {
  std::vector<std::unique_ptr<kernels::Backend>> gpus;
  for (int i = 0; i < ranks.count; ++i) {
    auto gpu = kernels::MakeBackend(kernels::DeviceKind::kCuda, i);
    if (absl::IsUnavailable(gpu.status()) && i > 0) {
      return absl::FailedPreconditionError(absl::StrFormat(
          "--tensor-parallel-size %d over %d node(s) needs %d GPUs in this process, but it sees %d",
          ranks.world, options.nnodes, ranks.count, i));
    }
    YOIO_RETURN_IF_ERROR(gpu.status());
    gpus.push_back(*std::move(gpu));
  }
  return Devices(kernels::DeviceKind::kCuda, std::move(gpus));
}

absl::StatusOr<Devices> Cpu() {
  std::vector<std::unique_ptr<kernels::Backend>> cpu(1);
  YOIO_ASSIGN_OR_RETURN(cpu[0], kernels::MakeBackend(kernels::DeviceKind::kCpu, 0));
  return Devices(kernels::DeviceKind::kCpu, std::move(cpu));
}

}  // namespace

std::vector<kernels::Backend*> Devices::OfRanks(int count) const {
  YOIO_CHECK(backends_.size() == 1 || static_cast<int>(backends_.size()) == count);
  std::vector<kernels::Backend*> backends;
  for (int i = 0; i < count; ++i) backends.push_back(backends_[backends_.size() == 1 ? 0 : i].get());
  return backends;
}

absl::StatusOr<DeviceMemory> Devices::Memory(const NodeRanks& ranks) const {
  const kernels::Backend& first = *backends_[0];
  const bool joins = kind_ == kernels::DeviceKind::kCuda && ranks.world > 1;
  const int64_t joining = joins ? DeviceBytesOf(CommunicatorKind::kNccl, ranks.world) : 0;
  DeviceMemory memory{.device = std::string(first.name()),
                      .activations = first.activation_type(),
                      .asynchronous = first.captures(),
                      .available = {},
                      .host_available = AvailableMemoryBytes() / ranks.count};
  const int sharers = backends_.size() == 1 ? ranks.count : 1;
  for (kernels::Backend* backend : OfRanks(ranks.count)) {
    YOIO_ASSIGN_OR_RETURN(const int64_t bytes, backend->AvailableBytes());
    memory.available.push_back(bytes / sharers - joining);
  }
  return memory;
}

absl::StatusOr<Devices> ChooseDevices(const EngineOptions& options, const ModelConfig& config,
                                      const NodeRanks& ranks) {
  if (options.device == Device::kCpu) return Cpu();
  auto gpus = AllGpus(options, ranks);
  if (options.device == Device::kCuda) return gpus;
  absl::Status refusal = gpus.status();
  if (gpus.ok()) {
    const auto memory = gpus->Memory(ranks);
    refusal = memory.ok() ? PlanMemory(options, config, *memory).status() : memory.status();
  }
  if (gpus.ok() && !absl::IsResourceExhausted(refusal)) return gpus;
  if (!absl::IsUnimplemented(refusal) && options.on_fallback) options.on_fallback(refusal);
  return Cpu();
}

absl::StatusOr<CommunicatorKind> ChooseCommunicator(const EngineOptions& options,
                                                    kernels::DeviceKind device) {
  const bool gpus = device == kernels::DeviceKind::kCuda;
  const bool alone = options.tensor_parallel_size == 1;
  switch (options.communication) {
    case Communication::kAuto:
      if (gpus && !alone) return CommunicatorKind::kNccl;
      return options.nnodes > 1 ? CommunicatorKind::kSocket : CommunicatorKind::kLocal;
    case Communication::kLocal:
      if (options.nnodes > 1) {
        return absl::InvalidArgumentError(absl::StrFormat(
            "--communicator local joins threads of one process, but --nnodes is %d", options.nnodes));
      }
      if (gpus && !alone) {
        return absl::InvalidArgumentError(absl::StrFormat(
            "--communicator local joins ranks on the CPU, but --tensor-parallel-size is %d on GPUs: "
            "expected nccl",
            options.tensor_parallel_size));
      }
      return CommunicatorKind::kLocal;
    case Communication::kSocket:
      if (gpus) {
        return absl::InvalidArgumentError(
            "--communicator socket joins ranks on the CPU, but this engine runs on GPUs: expected nccl");
      }
      return CommunicatorKind::kSocket;
    case Communication::kNccl:
      if (!gpus) {
        return absl::InvalidArgumentError(
            "--communicator nccl joins GPUs, but this engine runs on the CPU: expected local or socket");
      }
      return CommunicatorKind::kNccl;
  }
  return absl::InvalidArgumentError("--communicator");
}

}  // namespace yoio
