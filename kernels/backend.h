// A device: its memory, its streams and its implementation of every operation.
#ifndef YOIO_KERNELS_BACKEND_H_
#define YOIO_KERNELS_BACKEND_H_

#include <cstddef>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/ops.h"

namespace yoio::kernels {

class Backend;

// An ordered queue of work on one device. Owned by one rank's thread and used by it alone.
class Stream {
 public:
  virtual ~Stream() = default;
};

// Work recorded once and replayed as a whole: every launch with the arguments it had when it was recorded.
class Graph {
 public:
  virtual ~Graph() = default;
};

// A place in a stream, marked by Backend::Record.
class Event {
 public:
  virtual ~Event() = default;
};

// Device memory, or host memory that the device reads and writes by itself, with one owner. Movable; freed
// when destroyed.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Backend* backend, void* data, size_t bytes, bool on_host = false)
      : backend_(backend), data_(data), bytes_(bytes), on_host_(on_host) {}
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  size_t bytes() const { return bytes_; }
  void* data() const { return data_; }
  template <typename T>
  T* As() const {
    return static_cast<T*>(data_);
  }

 private:
  Backend* backend_ = nullptr;  // outlives the buffer
  void* data_ = nullptr;
  size_t bytes_ = 0;
  bool on_host_ = false;
};

// All operations are called by the thread that owns `stream` and run in stream order. Arguments are checked
// by the caller's plan, not per call; a launch that the device refuses is reported by Synchronize.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string_view name() const = 0;
  // The type behind Activation*.
  virtual DType activation_type() const = 0;

  // Bytes of device memory that can still be taken, leaving room for what streams need. Thread-safe.
  virtual absl::StatusOr<int64_t> AvailableBytes() = 0;
  // 64-byte aligned, contents undefined. RESOURCE_EXHAUSTED when the device has no room. Thread-safe.
  virtual absl::StatusOr<Buffer> Allocate(size_t bytes) = 0;
  // The same in host memory, which copies to and from the device need for running beside the host.
  virtual absl::StatusOr<Buffer> AllocateHost(size_t bytes) = 0;

  // `num_threads` is the share of host threads that the stream may use (CPU); a device ignores it.
  virtual absl::StatusOr<std::unique_ptr<Stream>> NewStream(int num_threads) = 0;

  // A second queue of `stream`, for work beside its own: made at the first call, owned by it.
  // RESOURCE_EXHAUSTED when the device has no room for what a stream needs. A device that computes at once
  // has nothing to do beside anything: the stream itself.
  virtual absl::StatusOr<Stream*> SideStream(Stream& stream) = 0;
  // What `stream` is given from here on runs once `other` has passed what it has been given so far, and what
  // failed in `other` has failed in `stream`. For a stream and its side, in either direction; also in a
  // recording of the stream, where a side that has waited for it becomes a branch until it waits for the
  // side.
  virtual void WaitFor(Stream& stream, Stream& other) = 0;

  // Queued like any operation. Host memory stays valid, and what is read from it unchanged, until the stream
  // has passed the copy. Only memory of AllocateHost lets the call return before that.
  virtual void CopyToDevice(void* device, const void* host, size_t bytes, Stream& stream) = 0;
  virtual void CopyToHost(void* host, const void* device, size_t bytes, Stream& stream) = 0;
  virtual void Fill(void* device, int byte, size_t bytes, Stream& stream) = 0;

  // Blocks until everything queued has run. INTERNAL with the device's own words when any of it failed.
  virtual absl::Status Synchronize(Stream& stream) = 0;

  virtual absl::StatusOr<std::unique_ptr<Event>> NewEvent() = 0;
  // Marks what is queued so far; an event may be marked again and then stands for the new place.
  virtual void Record(Event& event, Stream& stream) = 0;
  // Whether the stream has passed the mark; never blocks. INTERNAL when something before it failed.
  virtual absl::StatusOr<bool> Passed(Event& event) = 0;

  // Numbers of rows, ascending up to `most`: once a stream has run the products of each of them, it has
  // loaded and chosen all that products of any number up to `most` need. Empty where nothing is.
  virtual std::vector<int> KindsOfRows(int most) const = 0;

  // Whether steps can be recorded and replayed. Between BeginCapture and EndCapture operations, those of
  // the side stream included, are recorded instead of run; copies, Synchronize and events are not allowed
  // there. Graphs outlive their last replay,
  // and die before the stream.
  virtual bool captures() const = 0;
  virtual void BeginCapture(Stream& stream) = 0;
  virtual absl::StatusOr<std::unique_ptr<Graph>> EndCapture(Stream& stream) = 0;
  virtual void Replay(Graph& graph, Stream& stream) = 0;

  virtual void Embed(const EmbedArgs& args, Stream& stream) = 0;
  virtual void ResidualRmsNorm(const ResidualRmsNormArgs& args, Stream& stream) = 0;
  virtual void RopeTable(const RopeTableArgs& args, Stream& stream) = 0;
  virtual void HeadNormRope(const HeadNormRopeArgs& args, Stream& stream) = 0;
  virtual void MatMul(const MatMulArgs& args, Stream& stream) = 0;
  virtual void SiluGate(const SiluGateArgs& args, Stream& stream) = 0;
  virtual void GateUp(const GateUpArgs& args, Stream& stream) = 0;
  virtual void WriteKv(const WriteKvArgs& args, Stream& stream) = 0;
  virtual void WriteIndexKeys(const WriteIndexKeysArgs& args, Stream& stream) = 0;
  virtual void WindowAttention(const WindowAttentionArgs& args, Stream& stream) = 0;
  virtual void DenseAttention(const DenseAttentionArgs& args, Stream& stream) = 0;
  virtual void IndexScores(const IndexScoresArgs& args, Stream& stream) = 0;
  virtual void TopK(const TopKArgs& args, Stream& stream) = 0;
  virtual void SparseAttention(const SparseAttentionArgs& args, Stream& stream) = 0;
  virtual void GatherRows(const GatherRowsArgs& args, Stream& stream) = 0;
  virtual void CopyBlocks(const CopyBlocksArgs& args, Stream& stream) = 0;
  virtual void UpdateWords(const UpdateWordsArgs& args, Stream& stream) = 0;
  virtual void AdjustLogits(const AdjustLogitsArgs& args, Stream& stream) = 0;
  virtual void Draw(const DrawArgs& args, Stream& stream) = 0;
  virtual void Pick(const PickArgs& args, Stream& stream) = 0;
  virtual void JoinParts(const JoinPartsArgs& args, Stream& stream) = 0;
  virtual void RecordTokens(const RecordTokensArgs& args, Stream& stream) = 0;
  virtual void Logprobs(const LogprobsArgs& args, Stream& stream) = 0;
  virtual void Stamp(const StampArgs& args, Stream& stream) = 0;

 private:
  friend class Buffer;
  virtual void Free(void* data, size_t bytes, bool on_host) = 0;
};

enum class DeviceKind { kCpu, kCuda };

// The first of the two places that choose an implementation. UNIMPLEMENTED when this binary was built without
// the device, UNAVAILABLE when the machine has none. The backend lives as long as the pointer and is shared
// by all ranks of the process on CPU.
absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(DeviceKind kind, int device_index);

}  // namespace yoio::kernels

#endif  // YOIO_KERNELS_BACKEND_H_
