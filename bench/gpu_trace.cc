#include "bench/gpu_trace.h"

#include <cupti.h>
#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace yoio::bench {
namespace {

constexpr size_t kBufferBytes = size_t{4} << 20;  // some 20 000 records
constexpr size_t kBufferAlignment = 8;

struct Trace {
  std::mutex mutex;
  std::vector<GpuActivity> activities;
};

// CUPTI may hand in a buffer from a thread of its own until the process ends.
Trace& TheTrace() {
  static Trace* trace = new Trace;
  return *trace;
}

absl::Status ToStatus(CUptiResult result, const char* what) {
  if (result == CUPTI_SUCCESS) return absl::OkStatus();
  const char* name = "unknown error";
  cuptiGetResultString(result, &name);
  return absl::UnavailableError(absl::StrCat(what, ": ", name));
}

void Erase(std::string& text, const std::string& part) {
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part))
    text.erase(at, part.size());
}

// "void yoio::kernels::cuda::(anonymous namespace)::Norm<4>(float const*)" becomes "Norm<4>".
std::string ShortName(const char* mangled) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> demangled(
      abi::__cxa_demangle(mangled, nullptr, nullptr, &status), &std::free);
  std::string name = status == 0 ? demangled.get() : mangled;
  for (const char* part : {"void ", "(anonymous namespace)::", "yoio::kernels::cuda::"}) Erase(name, part);
  int depth = 0;  // of template arguments, which may hold casts
  for (size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '<') ++depth;
    if (name[i] == '>') --depth;
    if (name[i] == '(' && depth == 0) return name.substr(0, i);
  }
  return name;
}

template <typename Record>
GpuActivity Timed(const CUpti_Activity* record, std::string kernel) {
  const auto* timed = reinterpret_cast<const Record*>(record);
  YOIO_CHECK(timed->start != 0 && timed->end >= timed->start) << "no time for '" << kernel << "'";
  return {static_cast<int>(timed->deviceId), std::move(kernel), static_cast<int64_t>(timed->start),
          static_cast<int64_t>(timed->end)};
}

void Keep(const CUpti_Activity* record, std::vector<GpuActivity>& activities) {
  if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
    using Kernel = CUpti_ActivityKernel10;
    activities.push_back(Timed<Kernel>(record, ShortName(reinterpret_cast<const Kernel*>(record)->name)));
  } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
    activities.push_back(Timed<CUpti_ActivityMemcpy6>(record, ""));
  } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
    activities.push_back(Timed<CUpti_ActivityMemset4>(record, ""));
  }
}

void CUPTIAPI GiveBuffer(uint8_t** buffer, size_t* size, size_t* max_records) {
  *buffer = static_cast<uint8_t*>(std::aligned_alloc(kBufferAlignment, kBufferBytes));
  *size = *buffer == nullptr ? 0 : kBufferBytes;
  *max_records = 0;  // as many as fit
}

void CUPTIAPI TakeBuffer(CUcontext context, uint32_t stream, uint8_t* buffer, size_t, size_t valid_bytes) {
  Trace& trace = TheTrace();
  const std::lock_guard<std::mutex> lock(trace.mutex);
  CUpti_Activity* record = nullptr;
  while (cuptiActivityGetNextRecord(buffer, valid_bytes, &record) == CUPTI_SUCCESS)
    Keep(record, trace.activities);
  size_t dropped = 0;
  cuptiActivityGetNumDroppedRecords(context, stream, &dropped);
  YOIO_CHECK_EQ(dropped, size_t{0});
  std::free(buffer);
}

}  // namespace

absl::Status StartGpuTrace() {
  absl::Status status = ToStatus(cuptiActivityRegisterCallbacks(GiveBuffer, TakeBuffer), "CUPTI's callbacks");
  for (const CUpti_ActivityKind kind :
       {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET})
    status.Update(ToStatus(cuptiActivityEnable(kind), "cuptiActivityEnable"));
  return status;
}

std::vector<GpuActivity> TakeGpuTrace() {
  const absl::Status flushed = ToStatus(cuptiActivityFlushAll(0), "cuptiActivityFlushAll");
  YOIO_CHECK(flushed.ok()) << flushed.ToString();
  Trace& trace = TheTrace();
  const std::lock_guard<std::mutex> lock(trace.mutex);
  std::vector<GpuActivity> activities = std::exchange(trace.activities, {});
  std::sort(activities.begin(), activities.end(), [](const GpuActivity& a, const GpuActivity& b) {
    return std::pair(a.start, a.end) < std::pair(b.start, b.end);
  });
  return activities;
}

}  // namespace yoio::bench
