// A backend that works until it is told to fail.
#ifndef YOIO_TESTS_ENGINE_FAILING_BACKEND_H_
#define YOIO_TESTS_ENGINE_FAILING_BACKEND_H_

#include <atomic>
#include <memory>
#include <string_view>
#include <utility>

#include "kernels/backend.h"

namespace yoio::test {

// Hands everything on to another backend. Once the counter that it watches has run down, every look at the
// end of its work fails, as that at a device whose kernel has faulted does. Thread-safe as the other is.
class FailingBackend : public kernels::Backend {
 public:
  using Stream = kernels::Stream;

  // `countdown` falls with every synchronisation and every event asked about; it outlives the backend.
  FailingBackend(std::unique_ptr<kernels::Backend> inner, std::atomic<int>& countdown)
      : inner_(std::move(inner)), countdown_(countdown) {}

  absl::Status Synchronize(Stream& stream) override {
    if (countdown_.fetch_sub(1) <= 0) return absl::InternalError("the device has faulted");
    return inner_->Synchronize(stream);
  }
  absl::StatusOr<bool> Passed(kernels::Event& event) override {
    if (countdown_.fetch_sub(1) <= 0) return absl::InternalError("the device has faulted");
    return inner_->Passed(event);
  }

  std::string_view name() const override { return inner_->name(); }
  kernels::DType activation_type() const override { return inner_->activation_type(); }
  absl::StatusOr<int64_t> AvailableBytes() override { return inner_->AvailableBytes(); }
  absl::StatusOr<kernels::Buffer> Allocate(size_t bytes) override { return inner_->Allocate(bytes); }
  absl::StatusOr<kernels::Buffer> AllocateHost(size_t bytes) override { return inner_->AllocateHost(bytes); }
  absl::StatusOr<std::unique_ptr<kernels::Event>> NewEvent() override { return inner_->NewEvent(); }
  void Record(kernels::Event& event, Stream& stream) override { inner_->Record(event, stream); }
  std::vector<int> KindsOfRows(int most) const override { return inner_->KindsOfRows(most); }
  bool captures() const override { return inner_->captures(); }
  void BeginCapture(Stream& stream) override { inner_->BeginCapture(stream); }
  absl::StatusOr<std::unique_ptr<kernels::Graph>> EndCapture(Stream& stream) override {
    return inner_->EndCapture(stream);
  }
  void Replay(kernels::Graph& graph, Stream& stream) override { inner_->Replay(graph, stream); }
  absl::StatusOr<std::unique_ptr<Stream>> NewStream(int threads) override {
    return inner_->NewStream(threads);
  }
  absl::StatusOr<Stream*> SideStream(Stream& stream) override { return inner_->SideStream(stream); }
  void WaitFor(Stream& stream, Stream& other) override { inner_->WaitFor(stream, other); }
  void CopyToDevice(void* device, const void* host, size_t bytes, Stream& stream) override {
    inner_->CopyToDevice(device, host, bytes, stream);
  }
  void CopyToHost(void* host, const void* device, size_t bytes, Stream& stream) override {
    inner_->CopyToHost(host, device, bytes, stream);
  }
  void Fill(void* device, int byte, size_t bytes, Stream& stream) override {
    inner_->Fill(device, byte, bytes, stream);
  }
  void Embed(const kernels::EmbedArgs& args, Stream& stream) override { inner_->Embed(args, stream); }
  void ResidualRmsNorm(const kernels::ResidualRmsNormArgs& args, Stream& stream) override {
    inner_->ResidualRmsNorm(args, stream);
  }
  void RopeTable(const kernels::RopeTableArgs& args, Stream& stream) override {
    inner_->RopeTable(args, stream);
  }
  void HeadNormRope(const kernels::HeadNormRopeArgs& args, Stream& stream) override {
    inner_->HeadNormRope(args, stream);
  }
  void MatMul(const kernels::MatMulArgs& args, Stream& stream) override { inner_->MatMul(args, stream); }
  void SiluGate(const kernels::SiluGateArgs& args, Stream& stream) override {
    inner_->SiluGate(args, stream);
  }
  void GateUp(const kernels::GateUpArgs& args, Stream& stream) override { inner_->GateUp(args, stream); }
  void WriteKv(const kernels::WriteKvArgs& args, Stream& stream) override { inner_->WriteKv(args, stream); }
  void WriteIndexKeys(const kernels::WriteIndexKeysArgs& args, Stream& stream) override {
    inner_->WriteIndexKeys(args, stream);
  }
  void WindowAttention(const kernels::WindowAttentionArgs& args, Stream& stream) override {
    inner_->WindowAttention(args, stream);
  }
  void DenseAttention(const kernels::DenseAttentionArgs& args, Stream& stream) override {
    inner_->DenseAttention(args, stream);
  }
  void IndexScores(const kernels::IndexScoresArgs& args, Stream& stream) override {
    inner_->IndexScores(args, stream);
  }
  void TopK(const kernels::TopKArgs& args, Stream& stream) override { inner_->TopK(args, stream); }
  void SparseAttention(const kernels::SparseAttentionArgs& args, Stream& stream) override {
    inner_->SparseAttention(args, stream);
  }
  void GatherRows(const kernels::GatherRowsArgs& args, Stream& stream) override {
    inner_->GatherRows(args, stream);
  }
  void CopyBlocks(const kernels::CopyBlocksArgs& args, Stream& stream) override {
    inner_->CopyBlocks(args, stream);
  }
  void UpdateWords(const kernels::UpdateWordsArgs& args, Stream& stream) override {
    inner_->UpdateWords(args, stream);
  }
  void AdjustLogits(const kernels::AdjustLogitsArgs& args, Stream& stream) override {
    inner_->AdjustLogits(args, stream);
  }
  void Draw(const kernels::DrawArgs& args, Stream& stream) override { inner_->Draw(args, stream); }
  void Pick(const kernels::PickArgs& args, Stream& stream) override { inner_->Pick(args, stream); }
  void JoinParts(const kernels::JoinPartsArgs& args, Stream& stream) override {
    inner_->JoinParts(args, stream);
  }
  void RecordTokens(const kernels::RecordTokensArgs& args, Stream& stream) override {
    inner_->RecordTokens(args, stream);
  }
  void Logprobs(const kernels::LogprobsArgs& args, Stream& stream) override {
    inner_->Logprobs(args, stream);
  }
  void Stamp(const kernels::StampArgs& args, Stream& stream) override { inner_->Stamp(args, stream); }

 private:
  void Free(void*, size_t, bool) override {}  // its buffers belong to the other

  const std::unique_ptr<kernels::Backend> inner_;
  std::atomic<int>& countdown_;
};

}  // namespace yoio::test

#endif  // YOIO_TESTS_ENGINE_FAILING_BACKEND_H_
