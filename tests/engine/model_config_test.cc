#include "engine/checkpoint/config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/support/temporary_directory.h"

namespace yoio {
namespace {

using Json = nlohmann::json;
using test::TemporaryDirectory;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Json GoodConfig() {
  return Json::parse(R"({
    "model_type": "clsa", "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 7,
    "num_self_decoder_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 32,
    "vocab_size": 1000, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 10000,
    "tie_word_embeddings": false, "eos_token_id": [3, 4], "sliding_window": 64, "qk_norm": true,
    "index_n_heads": 1, "index_head_dim": 48, "index_topk": 128, "architectures": ["ClsaForCausalLM"],
    "rope_scaling": null})");
}

absl::StatusOr<ModelConfig> Parse(const Json& json) { return ParseModelConfig(json.dump(), "config.json"); }

TEST(ModelConfigTest, ReadsEveryKey) {
  const auto config = Parse(GoodConfig());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->model_type, "clsa");
  EXPECT_EQ(config->hidden_size, 96);
  EXPECT_EQ(config->intermediate_size, 256);
  EXPECT_EQ(config->num_hidden_layers, 7);
  EXPECT_EQ(config->num_self_decoder_layers, 3);
  EXPECT_EQ(config->num_attention_heads, 6);
  EXPECT_EQ(config->num_key_value_heads, 2);
  EXPECT_EQ(config->head_dim, 32);
  EXPECT_EQ(config->vocab_size, 1000);
  EXPECT_EQ(config->max_position_embeddings, 8192);
  EXPECT_FLOAT_EQ(config->rms_norm_eps, 1e-5f);
  EXPECT_EQ(config->rope_theta, 10000.0);
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_THAT(config->eos_token_ids, ElementsAre(3, 4));
  EXPECT_EQ(config->sliding_window, 64);
  EXPECT_TRUE(config->qk_norm);
  EXPECT_EQ(config->index_head_dim, 48);
  EXPECT_EQ(config->index_topk, 128);
}

TEST(ModelConfigTest, SparseConfigMakesAPlanWithOneMemoryAndOneIndexer) {
  const ModelPlan plan = Parse(GoodConfig())->plan;
  ASSERT_EQ(plan.stores.size(), 4u);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(plan.stores[i].layer, i);
    EXPECT_EQ(plan.stores[i].source, Source::kOwn);
    EXPECT_TRUE(plan.stores[i].rope);
    EXPECT_EQ(plan.stores[i].window, 64);
  }
  const Store& memory = plan.stores[3];
  EXPECT_EQ(memory.layer, 2);
  EXPECT_EQ(memory.source, Source::kMemory);
  EXPECT_FALSE(memory.rope);
  EXPECT_EQ(memory.window, 0);
  for (const Store& store : plan.stores) {
    EXPECT_EQ(store.kv_heads, 2);
    EXPECT_EQ(store.head_dim, 32);
    EXPECT_TRUE(store.qk_norm);
  }
  ASSERT_EQ(plan.indexers.size(), 1u);
  EXPECT_EQ(plan.indexers[0].store, 3);
  EXPECT_EQ(plan.indexers[0].dim, 48);
  EXPECT_EQ(plan.indexers[0].top_k, 128);
  ASSERT_EQ(plan.layers.size(), 7u);
  for (int i = 0; i < 7; ++i) {
    EXPECT_EQ(plan.layers[i].store, i < 3 ? i : 3);
    EXPECT_EQ(plan.layers[i].indexer, i < 3 ? -1 : 0);
    EXPECT_EQ(plan.layers[i].rows, i < 3 ? Rows::kAll : Rows::kOutput);
  }
}

TEST(ModelConfigTest, TopKZeroIsDense) {
  Json json = GoodConfig();
  json["index_topk"] = 0;
  const ModelPlan plan = Parse(json)->plan;
  EXPECT_TRUE(plan.indexers.empty());
  for (const Layer& layer : plan.layers) EXPECT_EQ(layer.indexer, -1);
}

TEST(ModelConfigTest, OneEndOfSequenceTokenMayStandAlone) {
  Json json = GoodConfig();
  json["eos_token_id"] = 999;
  EXPECT_THAT(Parse(json)->eos_token_ids, ElementsAre(999));
}

TEST(ModelConfigTest, EveryKeyIsRequired) {
  const Json good = GoodConfig();
  for (const auto& [key, value] : good.items()) {
    if (key == "architectures" || key == "rope_scaling") continue;
    Json json = good;
    json.erase(key);
    const auto config = Parse(json);
    EXPECT_TRUE(absl::IsInvalidArgument(config.status())) << key;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr("config.json: key '" + key + "' must be "));
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(", got nothing"));
  }
}

TEST(ModelConfigTest, AWrongTypeInAnyKeyIsAnError) {
  const Json good = GoodConfig();
  for (const auto& [key, value] : good.items()) {
    if (key == "architectures") continue;
    for (const char* wrong : {"{}", "[]", "[{}]", "\"7\"", "-1", "1e300", "18446744073709551615"}) {
      Json json = good;
      json[key] = Json::parse(wrong);
      const auto config = Parse(json);
      EXPECT_TRUE(absl::IsInvalidArgument(config.status())) << key << ": " << wrong;
      EXPECT_THAT(std::string(config.status().message()), HasSubstr("config.json: key '" + key));
    }
  }
}

struct BadValue {
  const char* key;
  const char* value;
  const char* message;
};

class BadValueTest : public testing::TestWithParam<BadValue> {};

TEST_P(BadValueTest, IsNamed) {
  const auto& [key, value, message] = GetParam();
  Json json = GoodConfig();
  json[key] = Json::parse(value);
  EXPECT_EQ(std::string(Parse(json).status().message()), message);
}

INSTANTIATE_TEST_SUITE_P(
    Values, BadValueTest,
    testing::Values(
        BadValue{"hidden_size", R"("96")", "config.json: key 'hidden_size' must be an integer, got string"},
        BadValue{"hidden_size", "96.0", "config.json: key 'hidden_size' must be an integer, got number"},
        BadValue{"hidden_size", "0", "config.json: key 'hidden_size' must be between 1 and 131072, got 0"},
        BadValue{"qk_norm", "1", "config.json: key 'qk_norm' must be true or false, got integer"},
        BadValue{"index_n_heads", "4", "config.json: key 'index_n_heads' must be 1, got 4"},
        BadValue{"model_type", R"("llama")", "config.json: key 'model_type' must be 'clsa', got 'llama'"},
        BadValue{"rope_scaling", R"({"type":"yarn"})",
                 "config.json: key 'rope_scaling' must be absent or null, got object"},
        BadValue{
            "num_key_value_heads", "4",
            "config.json: key 'num_key_value_heads' must be a divisor of num_attention_heads (6), got 4"},
        BadValue{"head_dim", "31", "config.json: key 'head_dim' must be even, got 31"},
        BadValue{"num_self_decoder_layers", "7",
                 "config.json: key 'num_self_decoder_layers' must be less than num_hidden_layers (7), got 7"},
        BadValue{"sliding_window", "0",
                 "config.json: key 'sliding_window' must be between 1 and 134217728, got 0"},
        BadValue{"rms_norm_eps", "1e-60",
                 "config.json: key 'rms_norm_eps' must be between 0 and 1, exclusive, got 1e-60"},
        BadValue{"rope_theta", "0.5", "config.json: key 'rope_theta' must be between 1 and 1e15, got 0.5"},
        BadValue{"eos_token_id", "1000",
                 "config.json: key 'eos_token_id' must be between 0 and 999, got 1000"},
        BadValue{"eos_token_id", "[1, null]",
                 "config.json: key 'eos_token_id[1]' must be an integer, got null"},
        BadValue{"eos_token_id", "[]",
                 "config.json: key 'eos_token_id' must be a token id or a list of at least one, got none"}));

TEST(ModelConfigTest, TextThatIsNoObjectIsAnError) {
  for (const char* text : {"", "[]", "null", "{", "{\"a\":1,\"a\":2}", "\xEF\xBB\xBF"}) {
    const auto config = ParseModelConfig(text, "config.json");
    EXPECT_TRUE(absl::IsInvalidArgument(config.status())) << text;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr("config.json: "));
  }
}

TEST(ModelConfigTest, ReadsFilesAndOverrides) {
  const TemporaryDirectory dir;
  EXPECT_TRUE(absl::IsNotFound(ReadModelConfig(dir.path(), "").status()));
  dir.Write("config.json", GoodConfig().dump());
  ASSERT_TRUE(ReadModelConfig(dir.path(), "").ok());

  const std::string changes = dir.Write("changes.json", R"({"index_topk": 0, "hidden_size": 64})");
  const auto config = ReadModelConfig(dir.path(), changes);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->index_topk, 0);
  EXPECT_EQ(config->hidden_size, 64);
  EXPECT_EQ(config->head_dim, 32);

  dir.Write("changes.json", R"({"index_topk": "many"})");
  const std::string message(ReadModelConfig(dir.path(), changes).status().message());
  EXPECT_EQ(message, dir.path() + "/config.json with " + changes +
                         ": key 'index_topk' must be an integer, got string");
  dir.Write("changes.json", "[]");
  EXPECT_TRUE(absl::IsInvalidArgument(ReadModelConfig(dir.path(), changes).status()));
  const auto missing = ReadModelConfig(dir.path(), dir.path() + "/none.json");
  EXPECT_TRUE(absl::IsNotFound(missing.status()));
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("none.json"));
}

TEST(ModelConfigTest, CommittedModelsAreReadable) {
  for (const char* dir : {"models/yoio-tiny", "tests/golden/micro", "tests/golden/micro_gqa"}) {
    const auto config = ReadModelConfig(std::string(YOIO_SOURCE_DIR "/") + dir, "");
    EXPECT_TRUE(config.ok()) << config.status();
  }
}

TEST(SamplingDefaultsTest, AbsentFileAndAbsentKeysKeepTheDefaults) {
  const TemporaryDirectory dir;
  for (const bool written : {false, true}) {
    if (written) dir.Write("generation_config.json", R"({"max_new_tokens": 7, "top_k": null})");
    const auto params = ReadSamplingDefaults(dir.path());
    ASSERT_TRUE(params.ok()) << params.status();
    EXPECT_EQ(params->temperature, 1.0f);
    EXPECT_EQ(params->top_p, 1.0f);
    EXPECT_EQ(params->top_k, 0);
    EXPECT_EQ(params->min_p, 0.0f);
    EXPECT_EQ(params->repetition_penalty, 1.0f);
  }
}

TEST(SamplingDefaultsTest, ReadsWhatIsThere) {
  const TemporaryDirectory dir;
  dir.Write("generation_config.json",
            R"({"do_sample": true, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.05,
                "repetition_penalty": 1.25})");
  const auto params = ReadSamplingDefaults(dir.path());
  ASSERT_TRUE(params.ok()) << params.status();
  EXPECT_EQ(params->temperature, 0.5f);
  EXPECT_EQ(params->top_p, 0.9f);
  EXPECT_EQ(params->top_k, 40);
  EXPECT_EQ(params->min_p, 0.05f);
  EXPECT_EQ(params->repetition_penalty, 1.25f);
}

TEST(SamplingDefaultsTest, WithoutSamplingTheTemperatureIsZero) {
  const TemporaryDirectory dir;
  dir.Write("generation_config.json", R"({"do_sample": false, "temperature": 0.7, "top_k": 50})");
  const auto params = ReadSamplingDefaults(dir.path());
  EXPECT_EQ(params->temperature, 0.0f);
  EXPECT_EQ(params->top_k, 50);
}

TEST(SamplingDefaultsTest, BadValuesAreNamed) {
  const TemporaryDirectory dir;
  const std::pair<const char*, const char*> cases[] = {
      {R"({"temperature": -1})", "key 'temperature' must be between 0 and 100, got -1"},
      {R"({"temperature": "hot"})", "key 'temperature' must be a number, got string"},
      {R"({"top_p": 0})", "key 'top_p' must be above 0 and at most 1, got 0"},
      {R"({"top_p": 1.5})", "key 'top_p' must be above 0 and at most 1, got 1.5"},
      {R"({"top_k": -1})", "key 'top_k' must be between 0 and 2147483647, got -1"},
      {R"({"top_k": 1.0})", "key 'top_k' must be an integer, got number"},
      {R"({"min_p": 2})", "key 'min_p' must be between 0 and 1, got 2"},
      {R"({"repetition_penalty": 0})", "key 'repetition_penalty' must be above 0 and at most 100, got 0"},
      {R"({"do_sample": "no"})", "key 'do_sample' must be true or false, got string"},
      {"[1]", "the document must be an object, got array"}};
  for (const auto& [text, expected] : cases) {
    const std::string path = dir.Write("generation_config.json", text);
    const auto params = ReadSamplingDefaults(dir.path());
    EXPECT_TRUE(absl::IsInvalidArgument(params.status())) << text;
    EXPECT_EQ(std::string(params.status().message()), path + ": " + expected);
  }
}

}  // namespace
}  // namespace yoio
