// A reduction with residual and norm of any shape between GPUs: its inputs, its bounds, and how a rank runs
// it.
#ifndef YOIO_TESTS_ENGINE_NCCL_REDUCTION_H_
#define YOIO_TESTS_ENGINE_NCCL_REDUCTION_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/comm/communicator.h"
#include "gtest/gtest.h"
#include "kernels/backend.h"
#include "kernels/dtype.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::test {

inline constexpr float kEps = 1e-5f;
inline constexpr double kHalfUnit = 0x1p-8;  // of bf16: rounding changes a value by this share of it at most

// What one rank's thread works with.
class Gpu {
 public:
  explicit Gpu(kernels::Backend& backend) : backend_(backend), stream_(*backend.NewStream(1)) {}

  kernels::Backend& backend() { return backend_; }
  kernels::Stream& stream() { return *stream_; }
  absl::Status Synchronize() { return backend_.Synchronize(*stream_); }

  template <typename T>
  kernels::Buffer Upload(const std::vector<T>& values) {
    kernels::Buffer buffer = *backend_.Allocate(values.size() * sizeof(T));
    backend_.CopyToDevice(buffer.data(), values.data(), buffer.bytes(), *stream_);
    EXPECT_EQ(Synchronize(), absl::OkStatus());
    return buffer;
  }
  template <typename T>
  std::vector<T> Download(const kernels::Buffer& buffer) {
    std::vector<T> values(buffer.bytes() / sizeof(T));
    backend_.CopyToHost(values.data(), buffer.data(), buffer.bytes(), *stream_);
    EXPECT_EQ(Synchronize(), absl::OkStatus());
    return values;
  }

 private:
  kernels::Backend& backend_;
  const std::unique_ptr<kernels::Stream> stream_;
};

inline std::vector<kernels::BFloat16> Rounded(const std::vector<float>& values) {
  std::vector<kernels::BFloat16> rounded;
  for (float value : values) rounded.push_back(kernels::ToBFloat16(value));
  return rounded;
}

struct Shape {
  int rows;
  int hidden;
  bool starts = false;
  bool has_norm = true;

  size_t count() const { return static_cast<size_t>(rows) * hidden; }
};

// The inputs of all ranks, which every rank can draw, and what comes out.
struct Reduction {
  Reduction(const Shape& shape, int world, uint64_t seed) : shape(shape) {
    Random random(seed);
    x = random.Normals(shape.count());
    weight = random.Normals(shape.hidden);
    for (int rank = 0; rank < world; ++rank) deltas.push_back(Rounded(random.Normals(shape.count())));
  }

  // The sum over ranks at `i`, exact but for double's rounding, and the sum of absolute values.
  std::pair<double, double> Sum(size_t i) const {
    double sum = 0, magnitude = 0;
    for (const std::vector<kernels::BFloat16>& delta : deltas) {
      sum += ToFloat(delta[i]);
      magnitude += std::abs(ToFloat(delta[i]));
    }
    return {sum, magnitude};
  }

  Shape shape;
  std::vector<float> x, weight;
  std::vector<std::vector<kernels::BFloat16>> deltas;
};

struct Outcome {
  std::vector<float> x, out;
};

// `share`: by how much of its size each addend, and the norm, may be off.
inline absl::Status Check(const Reduction& reduction, const Outcome& outcome, double share) {
  const Shape& shape = reduction.shape;
  std::vector<double> x(shape.count()), x_bound(x), out(x), out_bound(x);
  for (int row = 0; row < shape.rows; ++row) {
    double squares = 0;
    for (int j = 0; j < shape.hidden; ++j) {
      const size_t i = size_t{1} * row * shape.hidden + j;
      const auto [sum, magnitude] = reduction.Sum(i);
      x[i] = sum + (shape.starts ? 0 : reduction.x[i]);
      x_bound[i] =
          share * magnitude + DotBound(reduction.deltas.size() + 1, magnitude + std::abs(reduction.x[i]));
      squares += x[i] * x[i];
    }
    const double scale = 1 / std::sqrt(squares / shape.hidden + kEps);
    for (int j = 0; j < shape.hidden; ++j) {
      const size_t i = size_t{1} * row * shape.hidden + j;
      out[i] = x[i] * scale * reduction.weight[j];
      out_bound[i] = std::abs(out[i]) * (kHalfUnit + 4 * share + 1e-5) +
                     x_bound[i] * scale * std::abs(reduction.weight[j]);
    }
  }
  const auto near_x = AllNear(outcome.x, x, x_bound);
  if (!near_x) return absl::DataLossError(absl::StrCat("x: ", near_x.message()));
  if (!shape.has_norm) return absl::OkStatus();
  const auto near_out = AllNear(outcome.out, out, out_bound);
  return near_out ? absl::OkStatus() : absl::DataLossError(absl::StrCat("out: ", near_out.message()));
}

// Runs it, fused or not, on poisoned outputs.
inline absl::StatusOr<Outcome> Reduce(const Reduction& reduction, Communicator& comm, Gpu& gpu,
                                      bool fused = true) {
  const Shape& shape = reduction.shape;
  const float poison = std::nanf("");
  const kernels::Buffer x =
      gpu.Upload(shape.starts ? std::vector<float>(shape.count(), poison) : reduction.x);
  const kernels::Buffer delta = gpu.Upload(reduction.deltas[comm.rank()]);
  const kernels::Buffer weight = gpu.Upload(reduction.weight);
  const kernels::Buffer out = gpu.Upload(Rounded(std::vector<float>(shape.count(), poison)));
  const kernels::ResidualRmsNormArgs args = {.x = x.As<float>(),
                                             .delta = delta.As<kernels::Activation>(),
                                             .weight = shape.has_norm ? weight.As<float>() : nullptr,
                                             .eps = kEps,
                                             .num_rows = shape.rows,
                                             .hidden = shape.hidden,
                                             .out = out.As<kernels::Activation>(),
                                             .starts = shape.starts};
  kernels::Activation* writable = delta.As<kernels::Activation>();
  if (fused) {
    YOIO_RETURN_IF_ERROR(comm.AllReduceResidualNorm(args, writable, gpu.backend(), gpu.stream()));
  } else {
    YOIO_RETURN_IF_ERROR(
        comm.Communicator::AllReduceResidualNorm(args, writable, gpu.backend(), gpu.stream()));
  }
  YOIO_RETURN_IF_ERROR(gpu.Synchronize());
  Outcome outcome{gpu.Download<float>(x), {}};
  for (kernels::BFloat16 value : gpu.Download<kernels::BFloat16>(out)) outcome.out.push_back(ToFloat(value));
  return outcome;
}

}  // namespace yoio::test

#endif  // YOIO_TESTS_ENGINE_NCCL_REDUCTION_H_
