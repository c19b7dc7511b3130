#include "engine/group_messages.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/flat_bytes.h"

namespace yoio {
namespace {

constexpr uint32_t kVersion = 0x59470003;  // 'YG', then the version: raise it with every change of a field

}  // namespace

template <typename Archive, Is<Hello> T>
void ForEachField(Archive& archive, T& hello) {
  archive(hello.version, hello.node_rank, hello.nnodes, hello.tensor_parallel_size, hello.model,
          hello.config_hash, hello.device, hello.device_name, hello.available_bytes, hello.host_bytes);
}

template <typename Archive, Is<StepLimits> T>
void ForEachField(Archive& archive, T& limits) {
  archive(limits.max_step_tokens, limits.max_output_rows, limits.depth);
}

template <typename Archive, Is<CacheGeometry> T>
void ForEachField(Archive& archive, T& cache) {
  archive(cache.num_blocks, cache.max_sequences, cache.num_snapshots, cache.host_blocks, cache.host_rings,
          cache.max_blocks_per_sequence, cache.ring_tokens);
}

template <typename Archive, Is<Welcome> T>
void ForEachField(Archive& archive, T& welcome) {
  archive(welcome.first_rank, welcome.communicator, welcome.ticket, welcome.dummy_weights,
          welcome.index_sharding, welcome.check_index, welcome.step_timeout_ns, welcome.max_model_len,
          welcome.limits, welcome.cache);
}

template <typename Archive, Is<Loaded> T>
void ForEachField(Archive&, T&) {}

template <typename Archive, Is<StepTimes> T>
void ForEachField(Archive& archive, T& times) {
  archive(times.total, times.phases, times.comm_wait, times.recorded);
}

template <typename Archive, Is<Ended> T>
void ForEachField(Archive& archive, T& ended) {
  archive(ended.rank, ended.step, ended.times);
}

template <typename Archive, Is<Bye> T>
void ForEachField(Archive&, T&) {}

namespace {

absl::Status CheckLeast(const char* field, int64_t value, int64_t least) {
  if (value >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("message of the group: ", field, " ", value));
}

template <typename Enum>
absl::Status CheckEnum(const char* field, Enum value, Enum last) {
  const auto number = static_cast<uint32_t>(value);
  if (number <= static_cast<uint32_t>(last)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("message of the group: ", field, " ", number));
}

absl::Status Check(const Hello& hello) {
  YOIO_RETURN_IF_ERROR(CheckEnum("device", hello.device, kernels::DeviceKind::kCuda));
  return CheckLeast("number of ranks", static_cast<int64_t>(hello.available_bytes.size()), 1);
}

absl::Status Check(const Welcome& welcome) {
  YOIO_RETURN_IF_ERROR(CheckLeast("first_rank", welcome.first_rank, 1));
  YOIO_RETURN_IF_ERROR(CheckEnum("communicator", welcome.communicator, CommunicatorKind::kNccl));
  YOIO_RETURN_IF_ERROR(CheckEnum("index_sharding", welcome.index_sharding, IndexSharding::kRows));
  YOIO_RETURN_IF_ERROR(CheckLeast("step_timeout_ns", welcome.step_timeout_ns, 1));
  YOIO_RETURN_IF_ERROR(CheckLeast("max_model_len", welcome.max_model_len, 1));
  YOIO_RETURN_IF_ERROR(CheckLeast("max_step_tokens", welcome.limits.max_step_tokens, 1));
  YOIO_RETURN_IF_ERROR(CheckLeast("max_output_rows", welcome.limits.max_output_rows, 1));
  YOIO_RETURN_IF_ERROR(CheckLeast("depth", welcome.limits.depth, 1));
  YOIO_RETURN_IF_ERROR(CheckLeast("num_blocks", welcome.cache.num_blocks, 1));
  YOIO_RETURN_IF_ERROR(CheckLeast("max_sequences", welcome.cache.max_sequences, 1));
  YOIO_RETURN_IF_ERROR(CheckLeast("max_blocks_per_sequence", welcome.cache.max_blocks_per_sequence, 1));
  YOIO_RETURN_IF_ERROR(CheckLeast("num_snapshots", welcome.cache.num_snapshots, 0));
  YOIO_RETURN_IF_ERROR(CheckLeast("host_blocks", welcome.cache.host_blocks, 0));
  YOIO_RETURN_IF_ERROR(CheckLeast("host_rings", welcome.cache.host_rings, 0));
  return CheckLeast("ring_tokens", welcome.cache.ring_tokens, 0);
}

absl::Status Check(const Ended& ended) {
  YOIO_RETURN_IF_ERROR(CheckLeast("rank", ended.rank, 0));
  YOIO_RETURN_IF_ERROR(CheckLeast("step", ended.step, 0));
  for (const Duration phase : ended.times.phases) {
    YOIO_RETURN_IF_ERROR(CheckLeast("time of a phase", phase.count(), 0));
  }
  YOIO_RETURN_IF_ERROR(CheckLeast("total", ended.times.total.count(), 0));
  return CheckLeast("comm_wait", ended.times.comm_wait.count(), 0);
}

template <typename T>
absl::Status Check(const T&) {
  return absl::OkStatus();
}

// The number of a kind is its place in the variant.
std::string Header(size_t kind) {
  FlatWriter writer;
  writer(kVersion, static_cast<uint32_t>(kind));
  return writer.Take();
}
constexpr size_t kHeaderBytes = 8;
constexpr size_t kPlanKind = 3;
static_assert(std::is_same_v<std::variant_alternative_t<kPlanKind, GroupMessage>, StepPlan>);

template <typename T>
absl::StatusOr<GroupMessage> Read(std::string_view body) {
  T message;
  FlatReader reader("message of the group", body);
  reader(message);
  YOIO_RETURN_IF_ERROR(reader.Finish());
  YOIO_RETURN_IF_ERROR(Check(message));
  return GroupMessage(std::move(message));
}

template <>
absl::StatusOr<GroupMessage> Read<StepPlan>(std::string_view body) {
  YOIO_ASSIGN_OR_RETURN(StepPlan plan, DeserializeStepPlan(body));
  return GroupMessage(std::move(plan));
}

template <size_t kKind = 0>
absl::StatusOr<GroupMessage> ReadKind(uint32_t kind, std::string_view body) {
  if constexpr (kKind < std::variant_size_v<GroupMessage>) {
    if (kind == kKind) return Read<std::variant_alternative_t<kKind, GroupMessage>>(body);
    return ReadKind<kKind + 1>(kind, body);
  }
  return absl::InvalidArgumentError(absl::StrCat("message of the group: kind ", kind));
}

}  // namespace

std::string SerializeMessage(const GroupMessage& message) {
  if (const auto* plan = std::get_if<StepPlan>(&message)) return SerializeMessage(*plan);
  FlatWriter body;
  std::visit(
      [&body]<typename T>(const T& value) {
        if constexpr (!std::is_same_v<T, StepPlan>) body(value);
      },
      message);
  return Header(message.index()) + body.Take();
}

std::string SerializeMessage(const StepPlan& plan) { return Header(kPlanKind) + Serialize(plan); }

absl::StatusOr<GroupMessage> DeserializeMessage(std::string_view bytes) {
  FlatReader reader("message of the group", bytes.substr(0, kHeaderBytes));
  uint32_t version = 0, kind = 0;
  reader(version, kind);
  YOIO_RETURN_IF_ERROR(reader.Finish());
  if (version != kVersion) {
    return absl::InvalidArgumentError(absl::StrCat("message of the group: version ", version, ", expected ",
                                                   kVersion, ": all nodes must run the same program"));
  }
  return ReadKind(kind, bytes.substr(kHeaderBytes));
}

uint64_t HashOf(const ModelConfig& config) {
  // Names every field, so that a new one cannot be forgotten. The plan is made from the others.
  const auto& [model_type, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads,
               num_key_value_heads, head_dim, vocab_size, max_position_embeddings, rms_norm_eps, rope_theta,
               tie_word_embeddings, eos_token_ids, num_self_decoder_layers, sliding_window, qk_norm,
               index_head_dim, index_topk, plan] = config;
  FlatWriter fields;
  fields(model_type, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads,
         num_key_value_heads, head_dim, vocab_size, max_position_embeddings, rms_norm_eps, rope_theta,
         tie_word_embeddings, eos_token_ids, num_self_decoder_layers, sliding_window, qk_norm, index_head_dim,
         index_topk);
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char byte : fields.Take()) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001b3u;
  return hash;
}

}  // namespace yoio
