// The device that is measured: arrays of noise in its memory, the time of an operation on it, and its
// ceilings.
#ifndef YOIO_BENCH_LAB_H_
#define YOIO_BENCH_LAB_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "base/thread_pool.h"
#include "bench/report.h"
#include "kernels/backend.h"
#include "tests/support/random.h"

namespace yoio::bench {

// Ends the program, in one line, when there is no value.
template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
    std::exit(1);
  }
  return *std::move(value);
}

// One thread's.
class Lab {
 public:
  // "auto" takes the GPU where there is one; `index` says which of several.
  Lab(const std::string& device, int threads, int index = 0);

  kernels::Backend& backend() { return *backend_; }
  kernels::Stream& stream() { return *stream_; }
  int threads() const { return pool_.num_threads(); }
  bool on_gpu() const { return on_gpu_; }
  // For the heading: which GPU, or which processor and how much of it.
  std::string hardware() const;

  // Measures what heads the table: bandwidth of memory, then the rate of the library's matrix product.
  void AddCeilings(Report& report);
  // Bytes per second that a pass over `bytes` can have: of a copy (read and written) on a GPU, of reading as
  // much with as many threads on a CPU.
  double Bandwidth(size_t bytes);
  // FLOP/s of the library's large matrix product.
  double rate() const { return rate_; }

  // Activations or bf16 weights, random and never zero.
  kernels::Buffer Noise(size_t count);
  kernels::Buffer NoiseWeights(size_t count);
  // `bytes` of `data`, a whole number of 4 KiB, become noise of that type.
  void FillWithNoise(void* data, size_t bytes, kernels::DType type, float scale);
  kernels::Buffer Allocate(size_t bytes) { return Must(backend_->Allocate(bytes)); }
  template <typename T>
  kernels::Buffer Upload(const std::vector<T>& values) {
    kernels::Buffer buffer = Allocate(values.size() * sizeof(T));
    backend_->CopyToDevice(buffer.data(), values.data(), values.size() * sizeof(T), *stream_);
    Synchronize();
    return buffer;
  }
  // Element `index` of a buffer of activations.
  kernels::Activation* At(const kernels::Buffer& buffer, size_t index = 0) const {
    return reinterpret_cast<kernels::Activation*>(buffer.As<char>() + index * activation_bytes());
  }
  size_t activation_bytes() const { return SizeOf(backend_->activation_type()); }
  test::Random& random() { return random_; }

  // How many sets of buffers of `bytes` an operation must go through, so that no cache holds what comes next.
  int SetsBeyondCache(size_t bytes) const;
  // Seconds of one call, the median: call(i) queues the operation on the i-th of `sets` sets of buffers. A
  // GPU replays a graph of many calls, and the wall clock around it is divided by their number.
  double SecondsPerCall(int sets, absl::FunctionRef<void(int set)> call);
  // Adds the time of a call beside its floor: the greater of bytes over bandwidth and FLOPs over rate.
  void AddTime(Report& report, const std::string& name, double seconds, double bytes, double flops);

  void Synchronize();

 private:
  const kernels::Buffer& NoiseBlock(kernels::DType type, float scale);
  double SecondsOnGpu(int sets, absl::FunctionRef<void(int set)> call);
  double GraphSeconds(int calls, int sets, absl::FunctionRef<void(int set)> call, int samples);
  double ProductRate();

  const int index_;
  std::unique_ptr<kernels::Backend> backend_;
  bool on_gpu_ = false;
  std::unique_ptr<kernels::Stream> stream_;
  ThreadPool pool_;
  test::Random random_{1};
  std::map<std::pair<kernels::DType, float>, kernels::Buffer> noise_;
  kernels::Buffer noise_order_;
  std::map<size_t, double> bandwidths_;
  double rate_ = 0;
};

}  // namespace yoio::bench

#endif  // YOIO_BENCH_LAB_H_
