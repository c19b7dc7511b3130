#include "bench/lab.h"

#include <cblas.h>

#include <cmath>

#include "base/check.h"
#include "base/clock.h"
#include "bench/gpu_bandwidth.h"
#include "bench/measure.h"

namespace yoio::bench {
namespace {

using kernels::Buffer;
using kernels::DeviceKind;
using kernels::DType;

constexpr size_t kRowBytes = 4096;             // what FillWithNoise copies at a time
constexpr int kNoiseRows = 1024;               // of them are drawn
constexpr size_t kMostRows = size_t{1} << 18;  // copied by one operation
constexpr int kProduct = 8192;  // rows, columns and depth of the product that a GPU's rate is measured by
constexpr int kCpuProductRows = 512;
constexpr int kCpuProduct = 2048;
constexpr double kGraphSeconds = 4e-3;  // so long that launching the graph does not show
constexpr int kMostCalls = 1000;
constexpr int kReplays = 25;

std::unique_ptr<kernels::Backend> OpenDevice(const std::string& device, int index) {
  if (device != "cpu") {
    auto cuda = kernels::MakeBackend(DeviceKind::kCuda, index);
    if (cuda.ok() || device == "cuda") return Must(std::move(cuda));
  }
  return Must(kernels::MakeBackend(DeviceKind::kCpu, 0));
}

}  // namespace

Lab::Lab(const std::string& device, int threads, int index)
    : index_(index),
      backend_(OpenDevice(device, index)),
      on_gpu_(backend_->captures()),
      stream_(Must(backend_->NewStream(threads))),
      pool_(threads) {
  openblas_set_num_threads(1);  // each thread of the pool calls it for columns of its own
}

std::string Lab::hardware() const {
  return on_gpu_ ? std::string(backend_->name()) : ProcessorName(pool_.num_threads());
}

void Lab::Synchronize() {
  const absl::Status status = backend_->Synchronize(*stream_);
  YOIO_CHECK(status.ok()) << status.ToString();
}

void Lab::AddCeilings(Report& report) {
  const double bandwidth = Bandwidth(size_t{1} << 30);
  report.Add({on_gpu_ ? "ceiling/copy" : "ceiling/read", bandwidth * 1e-9, "GB/s"});
  rate_ = ProductRate();
  if (on_gpu_) {
    report.Add(
        {absl::StrCat("ceiling/mat-mul/", kProduct, "x", kProduct, "/", kProduct), rate_ * 1e-12, "TFLOP/s"});
  } else {
    report.Add({absl::StrCat("ceiling/sgemm/", kCpuProduct, "x", kCpuProduct, "/", kCpuProductRows),
                rate_ * 1e-9, "GFLOP/s"});
  }
}

double Lab::Bandwidth(size_t bytes) {
  const size_t key = on_gpu_ ? 0 : bytes;
  const auto [found, is_new] = bandwidths_.try_emplace(key, 0);
  if (is_new) found->second = on_gpu_ ? Must(GpuCopyBandwidth(index_)) : ReadBandwidth(pool_, bytes);
  return found->second;
}

// On a GPU, our own product of prompt rows, which is the library's; on a CPU the library alone, on weights
// that need no widening.
double Lab::ProductRate() {
  if (on_gpu_) {
    constexpr size_t kCount = size_t{kProduct} * kProduct;
    const Buffer x = Noise(kCount), w = NoiseWeights(kCount), y = Noise(kCount);
    const double seconds = SecondsPerCall(1, [&](int) {
      backend_->MatMul({.x = At(x),
                        .x_stride = kProduct,
                        .w = {w.data(), DType::kBF16, kProduct, kProduct},
                        .num_rows = kProduct,
                        .num_prompt_rows = kProduct,
                        .y = y.data(),
                        .y_type = backend_->activation_type(),
                        .y_stride = kProduct},
                       *stream_);
    });
    return 2.0 * kProduct * kCount / seconds;
  }
  constexpr int kRows = kCpuProductRows, kSize = kCpuProduct;
  const std::vector<float> x = random_.Normals(size_t{kRows} * kSize);
  const std::vector<float> w = random_.Normals(size_t{kSize} * kSize);
  std::vector<float> y(size_t{kRows} * kSize);
  const double seconds = bench::BestSeconds([&] {
    pool_.RunOnAll([&](int thread) {
      const int begin = kSize * thread / threads(), end = kSize * (thread + 1) / threads();
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, kRows, end - begin, kSize, 1.0f, x.data(), kSize,
                  w.data() + size_t{kSize} * begin, kSize, 0.0f, y.data() + begin, kSize);
    });
  });
  return 2.0 * kRows * kSize * kSize / seconds;
}

Buffer Lab::Noise(size_t count) {
  const size_t bytes = (count * activation_bytes() + kRowBytes - 1) / kRowBytes * kRowBytes;
  Buffer buffer = Allocate(bytes);
  FillWithNoise(buffer.data(), bytes, backend_->activation_type(), 1.0f);
  return buffer;
}

Buffer Lab::NoiseWeights(size_t count) {
  const size_t bytes = (count * sizeof(kernels::BFloat16) + kRowBytes - 1) / kRowBytes * kRowBytes;
  Buffer buffer = Allocate(bytes);
  FillWithNoise(buffer.data(), bytes, DType::kBF16, 0.02f);
  return buffer;
}

// Drawing gigabytes would take longer than the measurement: a few megabytes are drawn once, and the device
// repeats their rows in random order.
void Lab::FillWithNoise(void* data, size_t bytes, DType type, float scale) {
  YOIO_CHECK_EQ(bytes % kRowBytes, size_t{0});
  const Buffer& source = NoiseBlock(type, scale);
  if (noise_order_.bytes() == 0) {
    std::vector<int32_t> order(2 * kMostRows);
    for (int32_t& row : order) row = random_.Below(kNoiseRows);
    noise_order_ = Upload(order);
  }
  for (size_t done = 0; done < bytes; done += kMostRows * kRowBytes) {
    const size_t left = (bytes - done) / kRowBytes;
    backend_->GatherRows({.src = source.data(),
                          .rows = noise_order_.As<int32_t>() + random_.Below(kMostRows),
                          .num_rows = static_cast<int>(std::min(left, kMostRows)),
                          .row_bytes = kRowBytes,
                          .out = static_cast<char*>(data) + done},
                         *stream_);
  }
  Synchronize();
}

const Buffer& Lab::NoiseBlock(DType type, float scale) {
  Buffer& block = noise_[{type, scale}];
  if (block.bytes() > 0) return block;
  const size_t count = size_t{kNoiseRows} * kRowBytes / SizeOf(type);
  const std::vector<float> values = random_.Normals(count, scale);
  std::vector<kernels::BFloat16> halves;
  for (const float value : values) halves.push_back(kernels::ToBFloat16(value));
  block = type == DType::kF32 ? Upload(values) : Upload(halves);
  return block;
}

int Lab::SetsBeyondCache(size_t bytes) const {
  // Twenty times the second-level cache of a GPU (50 MB of an H100: whatever it keeps of a stream is little),
  // and several times the last of a processor.
  const size_t rotated = size_t{on_gpu_ ? 1024u : 768u} << 20;
  return static_cast<int>(std::clamp<size_t>((rotated + bytes - 1) / bytes, 1, 256));
}

double Lab::SecondsPerCall(int sets, absl::FunctionRef<void(int set)> call) {
  if (on_gpu_) return SecondsOnGpu(sets, call);
  int set = 0;
  return MedianSeconds([&] {
    call(set);
    set = (set + 1) % sets;
  });
}

double Lab::SecondsOnGpu(int sets, absl::FunctionRef<void(int set)> call) {
  for (int set = 0; set < sets; ++set) call(set);  // whatever is chosen or loaded at the first call
  Synchronize();
  const double guess = GraphSeconds(std::max(sets, 8), sets, call, 3);
  const int calls = static_cast<int>(std::clamp(kGraphSeconds / guess, 1.0, double{kMostCalls}));
  return GraphSeconds((calls + sets - 1) / sets * sets, sets, call, kReplays);
}

double Lab::GraphSeconds(int calls, int sets, absl::FunctionRef<void(int set)> call, int samples) {
  backend_->BeginCapture(*stream_);
  for (int i = 0; i < calls; ++i) call(i % sets);
  const std::unique_ptr<kernels::Graph> graph = Must(backend_->EndCapture(*stream_));
  std::vector<double> seconds;
  for (int i = 0; i <= samples; ++i) {  // the first replay uploads the graph and does not count
    const TimePoint start = Clock::now();
    backend_->Replay(*graph, *stream_);
    Synchronize();
    if (i > 0) seconds.push_back(ToSeconds(Clock::now() - start) / calls);
  }
  return Median(std::move(seconds));
}

void Lab::AddTime(Report& report, const std::string& name, double seconds, double bytes, double flops) {
  const double floor = std::max(bytes / Bandwidth(size_t{1} << 30), flops / rate_);
  report.Add({name, seconds * 1e6, "us", floor * 1e6});
}

}  // namespace yoio::bench
