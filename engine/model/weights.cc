#include "engine/model/weights.h"

#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/host_resources.h"
#include "base/status.h"
#include "base/thread_pool.h"

namespace yoio {
namespace {

using kernels::DType;
using kernels::Matrix;

// The part of a stored matrix that a rank keeps.
struct Slice {
  std::string tensor;
  int64_t rows, cols;  // as stored
  int64_t row_begin, row_count;
  int64_t col_begin, col_count;
};

Slice Rows(std::string tensor, int64_t rows, int64_t cols, int64_t begin, int64_t count) {
  return {std::move(tensor), rows, cols, begin, count, 0, cols};
}
Slice Cols(std::string tensor, int64_t rows, int64_t cols, int64_t begin, int64_t count) {
  return {std::move(tensor), rows, cols, 0, rows, begin, count};
}

// A cheap, well-mixed hash of an element's place: dummy weights do not depend on how they are sliced.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

// Where the values of tensors come from, and how much was read of them.
class WeightBuilder {
 public:
  WeightBuilder(const Checkpoint* checkpoint, uint64_t seed, kernels::Backend& backend,
                kernels::Stream& stream, Weights::Progress progress, int64_t total_bytes)
      : checkpoint_(checkpoint),
        seed_(seed),
        backend_(backend),
        stream_(stream),
        progress_(std::move(progress)),
        total_bytes_(total_bytes),
        pool_(checkpoint == nullptr ? AvailableThreads() : 1) {}

  // Stacks slices with the same number of columns into one matrix.
  absl::Status Stack(const std::vector<Slice>& slices, Matrix& out) {
    int64_t rows = 0;
    for (const Slice& slice : slices) rows += slice.row_count;
    const int64_t cols = slices.front().col_count;
    DType dtype = DType::kBF16;
    if (checkpoint_ != nullptr) {
      YOIO_ASSIGN_OR_RETURN(dtype, TypeOf(slices.front()));
    }
    const size_t row_bytes = cols * SizeOf(dtype);
    host_.resize(rows * row_bytes);
    std::byte* destination = host_.data();
    for (const Slice& slice : slices) {
      YOIO_CHECK_EQ(slice.col_count, cols);
      YOIO_RETURN_IF_ERROR(checkpoint_ != nullptr ? Read(slice, dtype, destination)
                                                  : Draw(slice, destination));
      destination += slice.row_count * row_bytes;
    }
    YOIO_ASSIGN_OR_RETURN(void* data, Upload(host_.data(), host_.size()));
    out = Matrix{.data = data, .dtype = dtype, .rows = rows, .cols = cols};
    return absl::OkStatus();
  }

  // A vector, widened to float. Dummy norms are all ones.
  absl::Status Vector(const std::string& tensor, int64_t size, const float*& out) {
    std::vector<float> values(size, 1.0f);
    if (checkpoint_ != nullptr) {
      YOIO_ASSIGN_OR_RETURN(const TensorView view, checkpoint_->Get(tensor, std::array<int64_t, 1>{size}));
      YOIO_ASSIGN_OR_RETURN(const DType dtype, ToDType(tensor, view.type));
      if (dtype == DType::kF32) {
        std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
      } else {
        std::vector<kernels::BFloat16> stored(size);
        std::memcpy(stored.data(), view.bytes.data(), view.bytes.size());
        for (int64_t i = 0; i < size; ++i) values[i] = ToFloat(stored[i]);
      }
    }
    YOIO_ASSIGN_OR_RETURN(void* data, Upload(values.data(), size * sizeof(float)));
    out = static_cast<const float*>(data);
    return absl::OkStatus();
  }

  std::vector<kernels::Buffer> TakeBuffers() { return std::move(buffers_); }

 private:
  static absl::StatusOr<DType> ToDType(const std::string& tensor, TensorType type) {
    if (type == TensorType::kF32) return DType::kF32;
    if (type == TensorType::kBF16) return DType::kBF16;
    return absl::InvalidArgumentError(absl::StrCat("tensor '", tensor, "' must be BF16 or F32"));
  }

  absl::StatusOr<DType> TypeOf(const Slice& slice) const {
    YOIO_ASSIGN_OR_RETURN(const TensorView view, checkpoint_->Get(slice.tensor));
    return ToDType(slice.tensor, view.type);
  }

  absl::Status Read(const Slice& slice, DType dtype, std::byte* destination) const {
    YOIO_ASSIGN_OR_RETURN(const TensorView view,
                          checkpoint_->Get(slice.tensor, std::array<int64_t, 2>{slice.rows, slice.cols}));
    YOIO_ASSIGN_OR_RETURN(const DType stored, ToDType(slice.tensor, view.type));
    if (stored != dtype) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor '", slice.tensor, "' must have the element type of the tensors it is stacked with"));
    }
    const size_t size = SizeOf(dtype);
    const std::byte* source = view.bytes.data() + (slice.row_begin * slice.cols + slice.col_begin) * size;
    for (int64_t row = 0; row < slice.row_count; ++row) {
      std::memcpy(destination + row * slice.col_count * size, source + row * slice.cols * size,
                  slice.col_count * size);
    }
    return absl::OkStatus();
  }

  // Uniform with the variance 1 / cols, so that activations keep their size from layer to layer.
  absl::Status Draw(const Slice& slice, std::byte* destination) {
    const uint64_t key = Mix(seed_ ^ std::hash<std::string>{}(slice.tensor));
    const float scale = std::sqrt(12.0f / static_cast<float>(slice.cols)) / 65536.0f;
    pool_.ParallelFor(slice.row_count, [&](int64_t i) {
      auto* out = reinterpret_cast<kernels::BFloat16*>(destination) + i * slice.col_count;
      const uint64_t row_begin = static_cast<uint64_t>(slice.row_begin + i) * slice.cols;
      for (int64_t col = slice.col_begin; col < slice.col_begin + slice.col_count; ++col) {
        const uint64_t place = row_begin + col;
        const uint64_t word = Mix(key + place / 4) >> (place % 4 * 16);
        *out++ = kernels::ToBFloat16((static_cast<float>(word & 0xffff) - 32767.5f) * scale);
      }
    });
    return absl::OkStatus();
  }

  absl::StatusOr<void*> Upload(const void* data, size_t bytes) {
    YOIO_ASSIGN_OR_RETURN(kernels::Buffer buffer, backend_.Allocate(bytes));
    backend_.CopyToDevice(buffer.data(), data, bytes, stream_);
    YOIO_RETURN_IF_ERROR(backend_.Synchronize(stream_));
    void* device = buffer.data();
    buffers_.push_back(std::move(buffer));
    done_bytes_ += static_cast<int64_t>(bytes);
    if (progress_) progress_(done_bytes_, total_bytes_);
    return device;
  }

  const Checkpoint* const checkpoint_;  // null: draw from the seed
  const uint64_t seed_;
  kernels::Backend& backend_;
  kernels::Stream& stream_;
  const Weights::Progress progress_;
  const int64_t total_bytes_;
  int64_t done_bytes_ = 0;
  ThreadPool pool_;
  std::vector<std::byte> host_;  // one stacked matrix at a time
  std::vector<kernels::Buffer> buffers_;
};

namespace {

absl::Status BuildLayer(const ModelConfig& config, const Shard& shard, int index, WeightBuilder& builder,
                        LayerWeights& layer) {
  const std::string prefix = absl::StrCat("model.layers.", index, ".");
  const int64_t hidden = config.hidden_size, dim = config.head_dim, ffn = config.intermediate_size;
  const int64_t q_rows = config.num_attention_heads * dim, kv_rows = config.num_key_value_heads * dim;
  const bool own = config.plan.stores[config.plan.layers[index].store].source == Source::kOwn;
  const std::string attention = prefix + (own ? "self_attn." : "cross_attn.");

  YOIO_RETURN_IF_ERROR(builder.Vector(prefix + "input_layernorm.weight", hidden, layer.input_norm));
  YOIO_RETURN_IF_ERROR(
      builder.Vector(prefix + "post_attention_layernorm.weight", hidden, layer.post_attention_norm));

  std::vector<Slice> qkv = {
      Rows(attention + "q_proj.weight", q_rows, hidden, shard.head_begin * dim, shard.heads * dim)};
  if (own) {
    for (const char* name : {"k_proj.weight", "v_proj.weight"}) {
      qkv.push_back(Rows(attention + name, kv_rows, hidden, shard.kv_head_begin * dim, shard.kv_heads * dim));
    }
  }
  YOIO_RETURN_IF_ERROR(builder.Stack(qkv, layer.qkv));
  YOIO_RETURN_IF_ERROR(builder.Stack(
      {Cols(attention + "o_proj.weight", hidden, q_rows, shard.head_begin * dim, shard.heads * dim)},
      layer.o));
  YOIO_RETURN_IF_ERROR(
      builder.Stack({Rows(prefix + "mlp.gate_proj.weight", ffn, hidden, shard.ffn_begin, shard.ffn),
                     Rows(prefix + "mlp.up_proj.weight", ffn, hidden, shard.ffn_begin, shard.ffn)},
                    layer.gate_up));
  YOIO_RETURN_IF_ERROR(builder.Stack(
      {Cols(prefix + "mlp.down_proj.weight", hidden, ffn, shard.ffn_begin, shard.ffn)}, layer.down));
  if (config.qk_norm) {
    YOIO_RETURN_IF_ERROR(builder.Vector(attention + "q_norm.weight", dim, layer.q_norm));
    if (own) YOIO_RETURN_IF_ERROR(builder.Vector(attention + "k_norm.weight", dim, layer.k_norm));
  }
  return absl::OkStatus();
}

absl::Status BuildMemory(const ModelConfig& config, const Shard& shard, WeightBuilder& builder,
                         MemoryWeights& memory) {
  const int64_t hidden = config.hidden_size, dim = config.head_dim;
  const int64_t kv_rows = config.num_key_value_heads * dim;
  YOIO_RETURN_IF_ERROR(builder.Vector("model.memory.norm.weight", hidden, memory.norm));
  std::vector<Slice> kv;
  for (const char* name : {"model.memory.k_proj.weight", "model.memory.v_proj.weight"}) {
    kv.push_back(Rows(name, kv_rows, hidden, shard.kv_head_begin * dim, shard.kv_heads * dim));
  }
  YOIO_RETURN_IF_ERROR(builder.Stack(kv, memory.kv));
  if (config.qk_norm) YOIO_RETURN_IF_ERROR(builder.Vector("model.memory.k_norm.weight", dim, memory.k_norm));
  if (config.plan.indexers.empty() || !shard.indexes()) return absl::OkStatus();
  const int64_t index_dim = config.index_head_dim;
  YOIO_RETURN_IF_ERROR(
      builder.Stack({Rows("model.indexer.q_proj.weight", index_dim, hidden, 0, index_dim)}, memory.index_q));
  return builder.Stack({Rows("model.indexer.k_proj.weight", index_dim, hidden, 0, index_dim)},
                       memory.index_k);
}

absl::StatusOr<std::unique_ptr<Weights>> Build(const ModelConfig& config, const Shard& shard,
                                               WeightBuilder& builder) {
  auto weights = std::make_unique<Weights>();
  const int64_t hidden = config.hidden_size, vocab = config.vocab_size;
  YOIO_RETURN_IF_ERROR(
      builder.Stack({Rows("model.embed_tokens.weight", vocab, hidden, shard.vocab_begin, shard.vocab)},
                    weights->embedding));
  weights->layers.resize(config.num_hidden_layers);
  for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
    YOIO_RETURN_IF_ERROR(BuildLayer(config, shard, layer, builder, weights->layers[layer]));
  }
  YOIO_RETURN_IF_ERROR(BuildMemory(config, shard, builder, weights->memory));
  YOIO_RETURN_IF_ERROR(builder.Vector("model.norm.weight", hidden, weights->final_norm));
  if (config.tie_word_embeddings) {
    weights->lm_head = weights->embedding;
  } else {
    YOIO_RETURN_IF_ERROR(builder.Stack(
        {Rows("lm_head.weight", vocab, hidden, shard.vocab_begin, shard.vocab)}, weights->lm_head));
  }
  return weights;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Weights>> Weights::Load(const ModelConfig& config, const Shard& shard,
                                                       const Checkpoint& checkpoint,
                                                       kernels::Backend& backend, kernels::Stream& stream,
                                                       const Progress& progress) {
  WeightBuilder builder(&checkpoint, 0, backend, stream, progress, Bytes(config, shard));
  YOIO_ASSIGN_OR_RETURN(auto weights, Build(config, shard, builder));
  weights->buffers_ = builder.TakeBuffers();
  return weights;
}

absl::StatusOr<std::unique_ptr<Weights>> Weights::Dummy(const ModelConfig& config, const Shard& shard,
                                                        uint64_t seed, kernels::Backend& backend,
                                                        kernels::Stream& stream, const Progress& progress) {
  WeightBuilder builder(nullptr, seed, backend, stream, progress, Bytes(config, shard));
  YOIO_ASSIGN_OR_RETURN(auto weights, Build(config, shard, builder));
  weights->buffers_ = builder.TakeBuffers();
  return weights;
}

int64_t Weights::Bytes(const ModelConfig& config, const Shard& shard) {
  const int64_t hidden = config.hidden_size, dim = config.head_dim;
  const int64_t q = shard.heads * dim, kv = 2 * shard.kv_heads * dim;
  int64_t matrices = (config.tie_word_embeddings ? 1 : 2) * shard.vocab * hidden;
  int64_t vectors = 2 * hidden;
  for (const Layer& layer : config.plan.layers) {
    const bool own = config.plan.stores[layer.store].source == Source::kOwn;
    matrices += hidden * (2 * q + (own ? kv : 0) + 3 * shard.ffn);
    vectors += 2 * hidden + (config.qk_norm ? (own ? 2 : 1) * dim : 0);
  }
  matrices += hidden * kv;
  if (!config.plan.indexers.empty() && shard.indexes()) matrices += 2 * hidden * config.index_head_dim;
  return 2 * matrices + 4 * (vectors + (config.qk_norm ? dim : 0));
}

}  // namespace yoio
