#include <algorithm>
#include <string>

#include "absl/strings/str_format.h"
#include "engine/model/weights.h"

namespace yoio {

absl::StatusOr<Shard> Shard::Make(const ModelConfig& config, int rank, int world, bool index_by_rows) {
  const auto indivisible = [&](const char* key, int value) {
    return absl::InvalidArgumentError(
        absl::StrFormat("tensor parallel size %d does not divide %s = %d of config.json", world, key, value));
  };
  if (world < 1) return absl::InvalidArgumentError("tensor parallel size must be at least 1");
  if (config.num_attention_heads % world != 0)
    return indivisible("num_attention_heads", config.num_attention_heads);
  if (config.intermediate_size % world != 0)
    return indivisible("intermediate_size", config.intermediate_size);
  const int kv_heads = config.num_key_value_heads;
  if (kv_heads % world != 0 && world % kv_heads != 0) return indivisible("num_key_value_heads", kv_heads);

  Shard shard{.rank = rank, .world = world};
  shard.heads = config.num_attention_heads / world;
  shard.head_begin = rank * shard.heads;
  shard.kv_heads = std::max(1, kv_heads / world);
  shard.kv_head_begin = shard.head_begin / (config.num_attention_heads / kv_heads);
  shard.ffn = config.intermediate_size / world;
  shard.ffn_begin = rank * shard.ffn;
  // A draw's noise comes in groups of four ids, and CUDA's products write rows a multiple of eight apart.
  constexpr int kVocabMultiple = 8;
  const int part = (config.vocab_size + world - 1) / world;
  shard.vocab_stride = world == 1 ? part : (part + kVocabMultiple - 1) / kVocabMultiple * kVocabMultiple;
  shard.vocab_begin = std::min(rank * shard.vocab_stride, config.vocab_size);
  shard.vocab = std::min(shard.vocab_stride, config.vocab_size - shard.vocab_begin);
  shard.index_ranks = index_by_rows ? world : 1;
  return shard;
}

}  // namespace yoio
