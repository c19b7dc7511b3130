#include "engine/comm/nccl_group.h"

#include <cuda_runtime_api.h>
#include <stdlib.h>

#include <atomic>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"
#include "kernels/cuda/status.h"

namespace yoio {
namespace {

using kernels::cuda::ToStatus;

constexpr Duration kPollInterval = std::chrono::microseconds(100);  // while a group starts
// How long an abort lets a member queue what it has begun. It takes a tenth of a millisecond.
constexpr Duration kPatience = std::chrono::milliseconds(100);

// What NCCL reads once, before its first call, whatever the environment says.
//   - NVLink multicast stays off: it is a resource of the switch that all GPUs of a host share, other
//   tenants'
//     too, and a process that dies with it can put them out of service. A step gains nothing from it: what it
//     sends is short.
//   - Ranks connect when they meet, and not in the first collective: queueing one then waits for no other
//     rank.
//   - No support for collectives inside and outside of graphs that run at the same time: on a rank none
//   begins
//     before the one before it has ended, because streams wait for each other. It would surround each
//     collective with events, 18 us of a decode step and 2 ms of a step of 8192 prompt tokens.
void SetEnvironment() {
  static const int failed = setenv("NCCL_NVLS_ENABLE", "0", /*overwrite=*/1) |
                            setenv("NCCL_RUNTIME_CONNECT", "0", /*overwrite=*/1) |
                            setenv("NCCL_GRAPH_MIXING_SUPPORT", "0", /*overwrite=*/1);
  YOIO_CHECK_EQ(failed, 0);
}

// Of what NCCL does in the background for `comm`, too.
ncclResult_t StateOf(ncclComm_t comm) {
  ncclResult_t state = ncclSuccess;
  const ncclResult_t asked = ncclCommGetAsyncError(comm, &state);
  return asked == ncclSuccess ? state : asked;
}

absl::Status ToStatus(ncclResult_t result, const char* what) {
  if (result == ncclSuccess || result == ncclInProgress) return absl::OkStatus();
  const std::string message =
      absl::StrCat(what, ": NCCL: ", ncclGetErrorString(result), "; ", ncclGetLastError(nullptr));
  switch (result) {
    case ncclSystemError:
    case ncclRemoteError:
      return absl::UnavailableError(message);
    case ncclInvalidUsage:  // two ranks on one device, among other things
      return absl::FailedPreconditionError(message);
    default:
      return absl::InternalError(message);
  }
}

}  // namespace

// A stream, and memory for what goes through it once.
class NcclGroup::Courier {
 public:
  static absl::StatusOr<std::unique_ptr<Courier>> Create(int device, size_t bytes) {
    YOIO_RETURN_IF_ERROR(ToStatus(cudaSetDevice(device), "cudaSetDevice"));
    auto courier = std::make_unique<Courier>();
    YOIO_RETURN_IF_ERROR(ToStatus(cudaStreamCreateWithFlags(&courier->stream_, cudaStreamNonBlocking),
                                  "cudaStreamCreateWithFlags"));
    YOIO_RETURN_IF_ERROR(ToStatus(cudaMalloc(&courier->data_, bytes), "cudaMalloc"));
    return courier;
  }
  ~Courier() {
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
    cudaFree(data_);
  }

  cudaStream_t stream() const { return stream_; }
  std::byte* data() const { return static_cast<std::byte*>(data_); }

 private:
  cudaStream_t stream_ = nullptr;
  void* data_ = nullptr;
};

absl::StatusOr<std::string> NewNcclTicket() {
  SetEnvironment();
  ncclUniqueId id;
  YOIO_RETURN_IF_ERROR(ToStatus(ncclGetUniqueId(&id), "ncclGetUniqueId"));
  return std::string(id.internal, sizeof(id.internal));
}

absl::StatusOr<std::unique_ptr<NcclGroup>> NcclGroup::Join(const Options& options, kernels::Backend& host) {
  std::unique_ptr<NcclGroup> group(new NcclGroup(options));
  if (options.world == 1) return group;
  if (options.ticket.size() != sizeof(ncclUniqueId)) {
    return absl::InvalidArgumentError(
        absl::StrCat("NCCL ticket of ", options.ticket.size(), " bytes: expected ", sizeof(ncclUniqueId)));
  }
  YOIO_ASSIGN_OR_RETURN(group->abort_word_, host.AllocateHost(sizeof(uint32_t)));
  *group->abort_word_.As<uint32_t>() = 0;
  const absl::Status status = group->Meet();
  if (!status.ok()) {
    group->Abort(status);
    return status;
  }
  return group;
}

NcclGroup::~NcclGroup() {
  for (std::thread& thread : aborting_) thread.join();
  MutexLock lock(mutex_);
  for (const Member& member : members_) ncclCommDestroy(member.comm);  // nothing when aborted
}

absl::Status NcclGroup::Meet() {
  SetEnvironment();
  ncclUniqueId id;
  std::memcpy(id.internal, options_.ticket.data(), sizeof(id.internal));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  {
    MutexLock lock(mutex_);
    members_.resize(num_members());
    YOIO_RETURN_IF_ERROR(CallForAll("ncclCommInitRankConfig", [&](int member) {
      return ncclCommInitRankConfig(&members_[member].comm, world(), id, first_rank() + member, &config);
    }));
  }
  return AwaitAll();
}

absl::Status NcclGroup::CallForAll(const char* what, absl::FunctionRef<ncclResult_t(int)> call) {
  ncclResult_t first = ncclGroupStart();
  for (int member = 0; member < num_members() && first == ncclSuccess; ++member) {
    first = cudaSetDevice(device(member)) == cudaSuccess ? call(member) : ncclUnhandledCudaError;
    if (first == ncclInProgress) first = ncclSuccess;
  }
  const ncclResult_t end = ncclGroupEnd();  // whatever failed: until then this thread's calls are collected
  return ToStatus(first == ncclSuccess ? end : first, what);
}

absl::Status NcclGroup::AwaitAll() {
  for (int member = 0; member < num_members();) {
    YOIO_ASSIGN_OR_RETURN(const ncclResult_t state, State(member));
    if (state == ncclSuccess) {
      ++member;
    } else if (Clock::now() > options_.deadline) {
      return Late();
    } else {
      std::this_thread::sleep_for(kPollInterval);
    }
  }
  return absl::OkStatus();
}

absl::Status NcclGroup::Late() const {
  return absl::DeadlineExceededError(
      absl::StrCat("NCCL group of ", world(), " ranks: not all others have come to meet ranks ", first_rank(),
                   " to ", first_rank() + num_members() - 1, " in time"));
}

absl::StatusOr<ncclResult_t> NcclGroup::State(int member) {
  MutexLock lock(mutex_);
  if (!abort_status_.ok()) return abort_status_;
  if (world() == 1) return ncclSuccess;
  const ncclResult_t state = StateOf(members_[member].comm);
  YOIO_RETURN_IF_ERROR(ToStatus(state, "a collective"));
  return state;
}

absl::Status NcclGroup::Queue(int member, absl::FunctionRef<ncclResult_t(ncclComm_t)> call) {
  ncclResult_t state = ncclSuccess;
  {
    MutexLock lock(mutex_);
    if (!abort_status_.ok()) return abort_status_;
    if (world() == 1) return absl::OkStatus();  // the result is there
    members_[member].is_queueing = true;
    state = call(members_[member].comm);
  }
  // To the end, even if the group is aborted meanwhile: until then NCCL works on the caller's stream.
  while (state == ncclInProgress) {
    std::this_thread::yield();
    MutexLock lock(mutex_);
    ncclComm_t comm = members_[member].comm;
    state = comm != nullptr ? StateOf(comm) : ncclSuccess;
  }
  MutexLock lock(mutex_);
  members_[member].is_queueing = false;
  queued_.NotifyAll();
  return abort_status_.ok() ? ToStatus(state, "a collective") : abort_status_;
}

absl::Status NcclGroup::ExchangeBytes(std::span<const std::byte> mine, std::span<std::byte> all) {
  std::vector<std::unique_ptr<Courier>> couriers;
  const absl::Status status = SendAndFetch(mine, all, couriers);
  if (!status.ok()) Abort(status);  // before the couriers end, which wait for their streams
  return status;
}

absl::Status NcclGroup::SendAndFetch(std::span<const std::byte> mine, std::span<std::byte> all,
                                     std::vector<std::unique_ptr<Courier>>& couriers) {
  const size_t bytes = all.size() / world();
  YOIO_CHECK_EQ(mine.size(), bytes * num_members());
  for (int member = 0; member < num_members(); ++member) {
    YOIO_ASSIGN_OR_RETURN(couriers.emplace_back(), Courier::Create(device(member), all.size()));
    YOIO_RETURN_IF_ERROR(ToStatus(cudaMemcpy(couriers[member]->data() + (first_rank() + member) * bytes,
                                             mine.data() + member * bytes, bytes, cudaMemcpyHostToDevice),
                                  "cudaMemcpy"));
  }
  {
    MutexLock lock(mutex_);
    YOIO_RETURN_IF_ERROR(CallForAll("ncclAllGather", [&](int member) {
      std::byte* data = couriers[member]->data();
      return ncclAllGather(data + (first_rank() + member) * bytes, data, bytes, ncclUint8,
                           members_[member].comm, couriers[member]->stream());
    }));
  }
  YOIO_RETURN_IF_ERROR(AwaitAll());
  for (const std::unique_ptr<Courier>& courier : couriers) {
    cudaError_t error = cudaErrorNotReady;
    while ((error = cudaStreamQuery(courier->stream())) == cudaErrorNotReady) {
      if (Clock::now() > options_.deadline) return Late();
      std::this_thread::sleep_for(kPollInterval);
    }
    YOIO_RETURN_IF_ERROR(ToStatus(error, "the first exchange"));
  }
  return ToStatus(cudaMemcpy(all.data(), couriers[0]->data(), all.size(), cudaMemcpyDeviceToHost),
                  "cudaMemcpy");
}

absl::Status NcclGroup::health(int member) { return State(member).status(); }

void NcclGroup::Abort(absl::Status status) {
  YOIO_CHECK(!status.ok()) << "an abort needs an error";
  MutexLock lock(mutex_);
  if (!abort_status_.ok()) return;
  abort_status_ = std::move(status);
  if (abort_word_.data() != nullptr) {
    std::atomic_ref<uint32_t>(*abort_word_.As<uint32_t>()).store(1, std::memory_order_relaxed);
  }
  // One waits for what the other holds, so all end at once; and a caller cannot wait for them.
  for (Member& member : members_) aborting_.emplace_back([this, &member] { End(member); });
}

void NcclGroup::End(Member& member) {
  ncclComm_t comm = nullptr;
  {
    MutexLock lock(mutex_);
    const TimePoint patience = Clock::now() + kPatience;
    while (member.is_queueing && Clock::now() < patience) queued_.WaitUntil(mutex_, patience);
    comm = std::exchange(member.comm, nullptr);  // nobody else calls NCCL with it any more
  }
  ncclCommAbort(comm);  // first tells the kernels to leave, then waits for them, and for graphs
}

}  // namespace yoio
