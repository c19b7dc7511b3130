#include "kernels/backend.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/cpu_backend.h"

#if YOIO_WITH_CUDA
#include "kernels/cuda/cuda_backend.h"
#endif

namespace yoio::kernels {
namespace {

#if YOIO_WITH_CUDA
absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(int device_index) {
  return cuda::CudaBackend::Create(device_index);
}
#else
absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(int device_index) {
  return absl::UnimplementedError(absl::StrCat("device cuda:", device_index,
                                               ": this binary was built without CUDA; expected device cpu"));
}
#endif

}  // namespace

Buffer::~Buffer() {
  if (data_ != nullptr) backend_->Free(data_, bytes_, on_host_);
}

Buffer::Buffer(Buffer&& other) noexcept
    : backend_(std::exchange(other.backend_, nullptr)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      on_host_(std::exchange(other.on_host_, false)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  Buffer taken(std::move(other));
  std::swap(backend_, taken.backend_);
  std::swap(data_, taken.data_);
  std::swap(bytes_, taken.bytes_);
  std::swap(on_host_, taken.on_host_);
  return *this;  // what this held before is freed with `taken`
}

absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(DeviceKind kind, int device_index) {
  if (kind == DeviceKind::kCuda) return MakeCudaBackend(device_index);
  if (device_index != 0) {
    return absl::InvalidArgumentError(absl::StrCat("device cpu:", device_index, ": expected index 0"));
  }
  return std::make_unique<cpu::CpuBackend>();
}

}  // namespace yoio::kernels
