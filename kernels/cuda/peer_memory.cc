#include "kernels/cuda/peer_memory.h"

#include <unistd.h>

#include <fstream>
#include <functional>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/cuda/status.h"

namespace yoio::kernels::cuda {
namespace {

// The boot and the name: containers of one machine share the first, and not what IPC needs.
uint64_t HostId() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  char name[256] = {};
  gethostname(name, sizeof(name) - 1);
  return std::hash<std::string>()(absl::StrCat(boot, " ", name));
}

// Drawn instead of asked for: process ids are unique within one container only.
uint64_t ProcessId() {
  static const uint64_t id = [] {
    std::random_device random;
    return uint64_t{random()} << 32 | random();
  }();
  return id;
}

absl::Status Unreachable(const PeerAddress& address, int device, cudaError_t error) {
  cudaGetLastError();  // it is dealt with: later launches must not find it
  return absl::FailedPreconditionError(absl::StrCat("device ", device, " cannot reach device ",
                                                    address.device, ": ", cudaGetErrorString(error)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<PeerMemory>> PeerMemory::Create(int device, size_t bytes) {
  YOIO_RETURN_IF_ERROR(ToStatus(cudaSetDevice(device), "cudaSetDevice"));
  std::unique_ptr<PeerMemory> memory(new PeerMemory);
  YOIO_RETURN_IF_ERROR(ToStatus(cudaMalloc(&memory->data_, bytes), "cudaMalloc of memory for peers"));
  YOIO_RETURN_IF_ERROR(ToStatus(cudaMemset(memory->data_, 0, bytes), "cudaMemset"));
  YOIO_RETURN_IF_ERROR(ToStatus(cudaDeviceSynchronize(), "cudaDeviceSynchronize"));
  PeerAddress& address = memory->address_;
  address.host = HostId();
  address.process = ProcessId();
  address.data = reinterpret_cast<uint64_t>(memory->data_);
  address.device = device;
  address.has_handle = cudaIpcGetMemHandle(&address.handle, memory->data_) == cudaSuccess;
  if (!address.has_handle) cudaGetLastError();  // peers of this process need none
  return memory;
}

PeerMemory::~PeerMemory() { cudaFree(data_); }

absl::StatusOr<std::unique_ptr<PeerMapping>> PeerMapping::Open(const PeerAddress& address, int device) {
  if (address.host != HostId()) return absl::FailedPreconditionError("memory of another host");
  YOIO_RETURN_IF_ERROR(ToStatus(cudaSetDevice(device), "cudaSetDevice"));
  if (address.process != ProcessId()) {
    void* data = nullptr;
    const cudaError_t error =
        address.has_handle ? cudaIpcOpenMemHandle(&data, address.handle, cudaIpcMemLazyEnablePeerAccess)
                           : cudaErrorNotSupported;
    if (error != cudaSuccess) return Unreachable(address, device, error);
    return std::unique_ptr<PeerMapping>(new PeerMapping(data, /*is_opened=*/true));
  }
  if (address.device != device) {
    const cudaError_t error = cudaDeviceEnablePeerAccess(address.device, 0);
    if (error == cudaErrorPeerAccessAlreadyEnabled) {
      cudaGetLastError();
    } else if (error != cudaSuccess) {
      return Unreachable(address, device, error);
    }
  }
  return std::unique_ptr<PeerMapping>(
      new PeerMapping(reinterpret_cast<void*>(address.data), /*is_opened=*/false));
}

PeerMapping::~PeerMapping() {
  if (is_opened_) cudaIpcCloseMemHandle(data_);
}

}  // namespace yoio::kernels::cuda
