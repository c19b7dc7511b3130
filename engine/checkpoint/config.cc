#include "engine/checkpoint/config.h"

#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/files/json_cursor.h"
#include "engine/files/mapped_file.h"
#include "engine/files/strict_json.h"
#include "nlohmann/json.hpp"

namespace yoio {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 20;

// Integers of config.json with their ranges. The upper bounds lie far beyond every known model, and low
// enough that no product of two or three of them overflows 64 bits.
struct IntegerKey {
  const char* name;
  int ModelConfig::*field;
  int low, high;
};
constexpr IntegerKey kIntegerKeys[] = {
    {"hidden_size", &ModelConfig::hidden_size, 1, 1 << 17},
    {"intermediate_size", &ModelConfig::intermediate_size, 1, 1 << 20},
    {"num_hidden_layers", &ModelConfig::num_hidden_layers, 2, 1 << 10},
    {"num_attention_heads", &ModelConfig::num_attention_heads, 1, 1 << 10},
    {"num_key_value_heads", &ModelConfig::num_key_value_heads, 1, 1 << 10},
    {"head_dim", &ModelConfig::head_dim, 2, 1 << 10},
    {"vocab_size", &ModelConfig::vocab_size, 1, 1 << 22},
    {"max_position_embeddings", &ModelConfig::max_position_embeddings, 1, 1 << 27},
    {"num_self_decoder_layers", &ModelConfig::num_self_decoder_layers, 1, 1 << 10},
    {"sliding_window", &ModelConfig::sliding_window, 1, 1 << 27},
    {"index_head_dim", &ModelConfig::index_head_dim, 1, 1 << 10},
    {"index_topk", &ModelConfig::index_topk, 0, 1 << 20},
};

absl::Status ReadIntegers(const JsonCursor& root, ModelConfig& config) {
  for (const auto& [name, field, low, high] : kIntegerKeys) {
    YOIO_ASSIGN_OR_RETURN(const int64_t value, root[name].Integer(low, high));
    config.*field = static_cast<int>(value);
  }
  return root["index_n_heads"].Integer(1, 1).status();
}

absl::Status ReadReals(const JsonCursor& root, ModelConfig& config) {
  const JsonCursor eps = root["rms_norm_eps"];
  YOIO_ASSIGN_OR_RETURN(const double eps_value, eps.Number());
  config.rms_norm_eps = static_cast<float>(eps_value);
  if (!(config.rms_norm_eps > 0 && config.rms_norm_eps < 1)) return eps.MustBe("between 0 and 1, exclusive");
  const JsonCursor theta = root["rope_theta"];
  YOIO_ASSIGN_OR_RETURN(config.rope_theta, theta.Number());
  if (!(config.rope_theta >= 1 && config.rope_theta <= 1e15)) return theta.MustBe("between 1 and 1e15");
  return absl::OkStatus();
}

// One integer or a list of them, inside the vocabulary.
absl::Status ReadEndOfSequence(const JsonCursor& eos, ModelConfig& config) {
  if (!eos.IsMissing() && eos.value().is_array()) {
    if (eos.size() == 0) return eos.MustBe("a token id or a list of at least one", "none");
    for (size_t i = 0; i < eos.size(); ++i) {
      YOIO_ASSIGN_OR_RETURN(const int64_t id, eos[i].Integer(0, config.vocab_size - 1));
      config.eos_token_ids.push_back(static_cast<int32_t>(id));
    }
    return absl::OkStatus();
  }
  YOIO_ASSIGN_OR_RETURN(const int64_t id, eos.Integer(0, config.vocab_size - 1));
  config.eos_token_ids.push_back(static_cast<int32_t>(id));
  return absl::OkStatus();
}

// What holds between keys.
absl::Status CheckRelations(const JsonCursor& root, const ModelConfig& config) {
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    return root["num_key_value_heads"].MustBe(
        absl::StrCat("a divisor of num_attention_heads (", config.num_attention_heads, ")"));
  }
  if (config.head_dim % 2 != 0) return root["head_dim"].MustBe("even");
  if (config.num_self_decoder_layers >= config.num_hidden_layers) {
    return root["num_self_decoder_layers"].MustBe(
        absl::StrCat("less than num_hidden_layers (", config.num_hidden_layers, ")"));
  }
  return absl::OkStatus();
}

// Each self-decoder layer reads the window that it wrote itself; every cross-decoder layer reads the one
// memory store that the last of those writes, through the one indexer if there is any.
ModelPlan MakePlan(const ModelConfig& config) {
  ModelPlan plan;
  const int memory = config.num_self_decoder_layers;
  for (int layer = 0; layer < memory; ++layer) {
    plan.stores.push_back({.layer = layer,
                           .source = Source::kOwn,
                           .kv_heads = config.num_key_value_heads,
                           .head_dim = config.head_dim,
                           .qk_norm = config.qk_norm,
                           .rope = true,
                           .window = config.sliding_window});
    plan.layers.push_back({.store = layer, .indexer = -1, .rows = Rows::kAll});
  }
  plan.stores.push_back({.layer = memory - 1,
                         .source = Source::kMemory,
                         .kv_heads = config.num_key_value_heads,
                         .head_dim = config.head_dim,
                         .qk_norm = config.qk_norm,
                         .rope = false,
                         .window = 0});
  const bool sparse = config.index_topk > 0;
  if (sparse) {
    plan.indexers.push_back({.store = memory, .dim = config.index_head_dim, .top_k = config.index_topk});
  }
  for (int layer = memory; layer < config.num_hidden_layers; ++layer) {
    plan.layers.push_back({.store = memory, .indexer = sparse ? 0 : -1, .rows = Rows::kOutput});
  }
  return plan;
}

absl::StatusOr<ModelConfig> ReadDocument(const nlohmann::json& document, const std::string& origin) {
  const JsonCursor root(document, origin);
  YOIO_RETURN_IF_ERROR(root.IsObject());
  ModelConfig config;
  YOIO_ASSIGN_OR_RETURN(config.model_type, root["model_type"].String());
  if (config.model_type != "clsa") return root["model_type"].MustBe("'clsa'");
  if (!root["rope_scaling"].IsMissingOrNull()) return root["rope_scaling"].MustBe("absent or null");
  YOIO_RETURN_IF_ERROR(ReadIntegers(root, config));
  YOIO_RETURN_IF_ERROR(ReadReals(root, config));
  YOIO_ASSIGN_OR_RETURN(config.tie_word_embeddings, root["tie_word_embeddings"].Bool());
  YOIO_ASSIGN_OR_RETURN(config.qk_norm, root["qk_norm"].Bool());
  YOIO_RETURN_IF_ERROR(ReadEndOfSequence(root["eos_token_id"], config));
  YOIO_RETURN_IF_ERROR(CheckRelations(root, config));
  config.plan = MakePlan(config);
  return config;
}

absl::StatusOr<nlohmann::json> ReadObject(const std::string& path) {
  YOIO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path, kMaxFileBytes));
  YOIO_ASSIGN_OR_RETURN(nlohmann::json document, ParseJson(file.text(), path));
  YOIO_RETURN_IF_ERROR(JsonCursor(document, path).IsObject());
  return document;
}

// A member of generation_config.json in a range whose lower end may be excluded; `value` stays without it.
absl::Status ReadFraction(const JsonCursor& member, bool zero_allowed, double high, float& value) {
  if (member.IsMissingOrNull()) return absl::OkStatus();
  YOIO_ASSIGN_OR_RETURN(const double number, member.Number());
  if (number < 0 || number > high || (static_cast<float>(number) == 0 && !zero_allowed)) {
    return member.MustBe(absl::StrCat(zero_allowed ? "between 0 and " : "above 0 and at most ", high));
  }
  value = static_cast<float>(number);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& dir, const std::string& override_path) {
  std::string origin = dir + "/config.json";
  YOIO_ASSIGN_OR_RETURN(nlohmann::json document, ReadObject(origin));
  if (!override_path.empty()) {
    YOIO_ASSIGN_OR_RETURN(const nlohmann::json changes, ReadObject(override_path));
    document.update(changes);
    absl::StrAppend(&origin, " with ", override_path);
  }
  return ReadDocument(document, origin);
}

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view json, const std::string& origin) {
  YOIO_ASSIGN_OR_RETURN(const nlohmann::json document, ParseJson(json, origin));
  return ReadDocument(document, origin);
}

absl::StatusOr<SamplingParams> ReadSamplingDefaults(const std::string& dir) {
  const std::string path = dir + "/generation_config.json";
  SamplingParams params;
  const absl::StatusOr<nlohmann::json> document = ReadObject(path);
  if (absl::IsNotFound(document.status())) return params;
  YOIO_RETURN_IF_ERROR(document.status());
  const JsonCursor root(*document, path);
  YOIO_RETURN_IF_ERROR(ReadFraction(root["temperature"], true, 100, params.temperature));
  YOIO_RETURN_IF_ERROR(ReadFraction(root["top_p"], false, 1, params.top_p));
  YOIO_RETURN_IF_ERROR(ReadFraction(root["min_p"], true, 1, params.min_p));
  YOIO_RETURN_IF_ERROR(ReadFraction(root["repetition_penalty"], false, 100, params.repetition_penalty));
  if (const JsonCursor top_k = root["top_k"]; !top_k.IsMissingOrNull()) {
    YOIO_ASSIGN_OR_RETURN(const int64_t value, top_k.Integer(0, std::numeric_limits<int32_t>::max()));
    params.top_k = static_cast<int32_t>(value);
  }
  if (const JsonCursor sample = root["do_sample"]; !sample.IsMissingOrNull()) {
    YOIO_ASSIGN_OR_RETURN(const bool enabled, sample.Bool());
    if (!enabled) params.temperature = 0;
  }
  return params;
}

}  // namespace yoio
