// Device memory that the other GPUs of a host write into directly, from this process or another.
#ifndef YOIO_KERNELS_CUDA_PEER_MEMORY_H_
#define YOIO_KERNELS_CUDA_PEER_MEMORY_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

namespace yoio::kernels::cuda {

// Where a PeerMemory lies. Plain bytes, to be handed to the processes of the peers.
struct PeerAddress {
  uint64_t host;     // the same on one boot of one machine (or container), different elsewhere
  uint64_t process;  // of all processes
  uint64_t data;     // its address in that process
  int32_t device;    // as that process counts
  int32_t has_handle;
  cudaIpcMemHandle_t handle;  // for other processes
};

// The owner's side. Nobody may write any more when it is destroyed, and peers have closed their mappings.
class PeerMemory {
 public:
  // Zeroed. Makes `device` the calling thread's current one.
  static absl::StatusOr<std::unique_ptr<PeerMemory>> Create(int device, size_t bytes);
  ~PeerMemory();
  PeerMemory(const PeerMemory&) = delete;
  PeerMemory& operator=(const PeerMemory&) = delete;

  void* data() const { return data_; }
  const PeerAddress& address() const { return address_; }

 private:
  PeerMemory() = default;

  void* data_ = nullptr;
  PeerAddress address_{};
};

// A peer's side: that memory as kernels on `device` address it.
class PeerMapping {
 public:
  // Makes `device` the calling thread's current one, and lets it reach the peer's device. FAILED_PRECONDITION
  // when the memory lies on another host, or when the machine connects the two devices in no way that both
  // can use.
  static absl::StatusOr<std::unique_ptr<PeerMapping>> Open(const PeerAddress& address, int device);
  ~PeerMapping();
  PeerMapping(const PeerMapping&) = delete;
  PeerMapping& operator=(const PeerMapping&) = delete;

  void* data() const { return data_; }

 private:
  PeerMapping(void* data, bool is_opened) : data_(data), is_opened_(is_opened) {}

  void* const data_;
  const bool is_opened_;  // by a handle, of another process
};

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_PEER_MEMORY_H_
