// The frame of every kernel test: one body, run on each backend, over device arrays with guards.
#ifndef YOIO_TESTS_SUPPORT_BACKEND_TEST_H_
#define YOIO_TESTS_SUPPORT_BACKEND_TEST_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "base/check.h"
#include "gtest/gtest.h"
#include "hwy/targets.h"
#include "kernels/backend.h"

namespace yoio::test {

// What unwritten memory holds: a NaN for float, a number no test uses for integers. An operation that leaves
// an output unwritten, or writes one that is not its own, is seen by it.
template <typename T>
T PoisonValue() {
  T value;
  std::memset(&value, 0xa5, sizeof(T));
  if constexpr (std::is_same_v<T, float>) {
    constexpr uint32_t kNanBits = 0x7fc0a5a5u;
    std::memcpy(&value, &kNanBits, sizeof(T));
  }
  if constexpr (std::is_same_v<T, kernels::BFloat16>) value.bits = 0x7fc5u;
  return value;
}

template <typename T>
bool IsPoison(const T& value) {
  const T poison = PoisonValue<T>();
  return std::memcmp(&value, &poison, sizeof(T)) == 0;
}

// Device memory for `count` values with poison before and behind it. Not thread-safe; the backend and the
// stream outlive it.
template <typename T>
class DeviceArray {
 public:
  // Poisoned throughout.
  DeviceArray(kernels::Backend& backend, kernels::Stream& stream, size_t count)
      : DeviceArray(backend, stream, std::vector<T>(count, PoisonValue<T>())) {}

  DeviceArray(kernels::Backend& backend, kernels::Stream& stream, const std::vector<T>& values)
      : backend_(backend), stream_(stream), count_(values.size()) {
    absl::StatusOr<kernels::Buffer> buffer = backend.Allocate((count_ + 2 * kGuard) * sizeof(T));
    YOIO_CHECK(buffer.ok()) << buffer.status().ToString();
    buffer_ = *std::move(buffer);
    std::vector<T> all(count_ + 2 * kGuard, PoisonValue<T>());
    std::copy(values.begin(), values.end(), all.begin() + kGuard);
    backend.CopyToDevice(buffer_.data(), all.data(), all.size() * sizeof(T), stream);
    YOIO_CHECK(backend.Synchronize(stream).ok());
  }

  T* data() const { return buffer_.As<T>() + kGuard; }
  size_t size() const { return count_; }

  // What the device holds now. Fails the test when a guard was overwritten.
  std::vector<T> Read() const {
    std::vector<T> all(count_ + 2 * kGuard);
    backend_.CopyToHost(all.data(), buffer_.data(), all.size() * sizeof(T), stream_);
    const absl::Status status = backend_.Synchronize(stream_);
    EXPECT_TRUE(status.ok()) << status.ToString();
    for (size_t i = 0; i < kGuard; ++i) {
      EXPECT_TRUE(IsPoison(all[i])) << "written " << kGuard - i << " before the array";
      EXPECT_TRUE(IsPoison(all[kGuard + count_ + i])) << "written " << i << " behind the array";
    }
    return std::vector<T>(all.begin() + kGuard, all.begin() + kGuard + count_);
  }

 private:
  static constexpr size_t kGuard = 64;  // a multiple of every vector length: data() stays 64-byte aligned

  kernels::Backend& backend_;
  kernels::Stream& stream_;
  size_t count_;
  kernels::Buffer buffer_;
};

// Activations in device memory: floats rounded to the backend's activation type. As DeviceArray.
class ActivationArray {
 public:
  ActivationArray(kernels::Backend& backend, kernels::Stream& stream, size_t count)
      : ActivationArray(backend, stream, std::vector<float>(count, PoisonValue<float>())) {}

  ActivationArray(kernels::Backend& backend, kernels::Stream& stream, const std::vector<float>& values)
      : values_(values), array_(Make(backend, stream, values_)) {}

  kernels::Activation* data() const { return at(0); }
  // The address of one element.
  kernels::Activation* at(size_t element) const {
    return std::visit(
        [element](const auto& array) {
          return reinterpret_cast<kernels::Activation*>(array.data() + element);
        },
        array_);
  }
  // What was uploaded, as the device holds it: rounded.
  const std::vector<float>& values() const { return values_; }
  size_t size() const { return values_.size(); }

  std::vector<float> Read() const {
    if (const auto* floats = std::get_if<DeviceArray<float>>(&array_)) return floats->Read();
    std::vector<float> values;
    for (const kernels::BFloat16 half : std::get<DeviceArray<kernels::BFloat16>>(array_).Read()) {
      values.push_back(IsPoison(half) ? PoisonValue<float>() : kernels::ToFloat(half));
    }
    return values;
  }

 private:
  using Array = std::variant<DeviceArray<float>, DeviceArray<kernels::BFloat16>>;

  // Rounds `values` in place where the type asks for it.
  static Array Make(kernels::Backend& backend, kernels::Stream& stream, std::vector<float>& values) {
    if (backend.activation_type() == kernels::DType::kF32) return DeviceArray<float>(backend, stream, values);
    std::vector<kernels::BFloat16> halves;
    for (float& value : values) {
      halves.push_back(IsPoison(value) ? PoisonValue<kernels::BFloat16>() : kernels::ToBFloat16(value));
      if (!IsPoison(value)) value = kernels::ToFloat(halves.back());
    }
    return DeviceArray<kernels::BFloat16>(backend, stream, halves);
  }

  std::vector<float> values_;
  Array array_;
};

// Where a test runs: a device, and on a CPU one of the instruction sets that this machine has and that
// kernels are compiled for, so that what an older machine would run is tested here.
struct TestDevice {
  kernels::DeviceKind kind;
  int64_t instruction_set;
};

inline std::vector<TestDevice> TestDevices() {
  std::vector<TestDevice> devices;
  for (const int64_t instruction_set : hwy::SupportedAndGeneratedTargets()) {
    devices.push_back({kernels::DeviceKind::kCpu, instruction_set});
  }
  if (kernels::MakeBackend(kernels::DeviceKind::kCuda, 0).ok()) {
    devices.push_back({kernels::DeviceKind::kCuda, 0});
  }
  return devices;
}

inline std::string TestDeviceName(const ::testing::TestParamInfo<TestDevice>& info) {
  if (info.param.kind == kernels::DeviceKind::kCuda) return "Cuda";
  return std::string("Cpu") + hwy::TargetName(info.param.instruction_set);
}

// A test with a backend and, for each number of threads asked for, a stream.
class BackendTest : public ::testing::TestWithParam<TestDevice> {
 protected:
  void SetUp() override {
    UseInstructionSets(GetParam().instruction_set);
    absl::StatusOr<std::unique_ptr<kernels::Backend>> backend = kernels::MakeBackend(GetParam().kind, 0);
    ASSERT_TRUE(backend.ok()) << backend.status().ToString();
    backend_ = *std::move(backend);
  }

  void TearDown() override { UseInstructionSets(0); }

  kernels::Backend& backend() { return *backend_; }

  // A device ignores the number of threads: it has one stream, behind which every Read waits.
  kernels::Stream& stream(int num_threads = 2) {
    if (on_cuda()) num_threads = 2;
    std::unique_ptr<kernels::Stream>& stream = streams_[num_threads];
    if (stream == nullptr) {
      absl::StatusOr<std::unique_ptr<kernels::Stream>> made = backend_->NewStream(num_threads);
      YOIO_CHECK(made.ok()) << made.status().ToString();
      stream = *std::move(made);
    }
    return *stream;
  }

  bool on_cuda() const { return GetParam().kind == kernels::DeviceKind::kCuda; }

  // Half the distance from 1 to the next activation: how much rounding one may change a result.
  double activation_unit() const {
    return backend_->activation_type() == kernels::DType::kF32 ? 0x1p-24 : 0x1p-8;
  }

  ActivationArray Activations(const std::vector<float>& values) {
    return ActivationArray(backend(), stream(), values);
  }

  ActivationArray PoisonedActivations(size_t count) { return ActivationArray(backend(), stream(), count); }

  template <typename T>
  DeviceArray<T> Upload(const std::vector<T>& values) {
    return DeviceArray<T>(backend(), stream(), values);
  }

  template <typename T>
  DeviceArray<T> Poisoned(size_t count) {
    return DeviceArray<T>(backend(), stream(), count);
  }

 private:
  // Dispatches to the best of `instruction_sets`; 0 stands for all that the machine has.
  static void UseInstructionSets(int64_t instruction_sets) {
    hwy::SetSupportedTargetsForTest(instruction_sets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }

  std::unique_ptr<kernels::Backend> backend_;
  std::map<int, std::unique_ptr<kernels::Stream>> streams_;
};

}  // namespace yoio::test

// Runs every TEST_P of `Suite` (a BackendTest) on each backend whose operations exist.
#define YOIO_TEST_ON_BACKENDS(Suite)                                                          \
  INSTANTIATE_TEST_SUITE_P(Backends, Suite, ::testing::ValuesIn(::yoio::test::TestDevices()), \
                           ::yoio::test::TestDeviceName)

#endif  // YOIO_TESTS_SUPPORT_BACKEND_TEST_H_
