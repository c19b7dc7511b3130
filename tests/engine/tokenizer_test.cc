#include "engine/tokenizer/tokenizer.h"

#include <fstream>
#include <thread>

#include "engine/files/mapped_file.h"
#include "engine/files/strict_json.h"
#include "engine/tokenizer/tokenizer_json.h"
#include "engine/tokenizer/utf8.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/support/random_text.h"

namespace yoio {
namespace {

using Json = nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kTestdata = YOIO_SOURCE_DIR "/tests/engine/testdata/";

Json ReadJson(const std::string& path) {
  const auto file = MappedFile::Open(path);
  if (!file.ok()) throw std::runtime_error(file.status().ToString());
  return *ParseJson(file->text(), path);
}

Json ReadTestJson(const std::string& name) { return ReadJson(kTestdata + name); }

std::unique_ptr<Tokenizer> Load(const std::string& path) {
  auto tokenizer = Tokenizer::FromFile(path);
  if (!tokenizer.ok()) throw std::runtime_error(tokenizer.status().ToString());
  return *std::move(tokenizer);
}

absl::Status ParseStatus(const Json& document) {
  return ParseTokenizerJson(document.dump(), "t.json").status();
}

void ExpectEncodes(const Tokenizer& tokenizer, const Json& cases) {
  ASSERT_GT(cases.size(), 50u);
  for (const Json& c : cases) {
    const auto ids = tokenizer.Encode(c["text"].get<std::string>());
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, c["ids"].get<std::vector<int32_t>>()) << c["text"];
  }
}

class StyleTest : public testing::TestWithParam<const char*> {
 protected:
  const std::string style_ = GetParam();
  const std::unique_ptr<Tokenizer> tokenizer_ = Load(kTestdata + style_ + ".json");
};

TEST_P(StyleTest, EncodesAsTheReferenceDoes) {
  ExpectEncodes(*tokenizer_, ReadTestJson(style_ + "_cases.json")["encode"]);
}

TEST_P(StyleTest, DecodesAsTheReferenceDoes) {
  const Json cases = ReadTestJson(style_ + "_cases.json")["decode"];
  ASSERT_GT(cases.size(), 50u);
  for (const Json& c : cases) {
    const auto ids = c["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer_->Decode(ids, false), c["text"].get<std::string>()) << c["ids"];
    EXPECT_EQ(tokenizer_->Decode(ids, true), c["plain"].get<std::string>()) << c["ids"];
  }
}

TEST_P(StyleTest, ThreadsShareATokenizer) {
  test::Random random(3);
  const std::string text = test::RandomText(random, 4000);
  const auto expected = tokenizer_->Encode(text);
  std::vector<std::thread> threads;
  std::vector<int> equal(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] { equal[t] = *tokenizer_->Encode(text) == *expected; });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(equal, testing::Each(1));
}

INSTANTIATE_TEST_SUITE_P(Styles, StyleTest,
                         testing::Values("gpt2", "llama", "digits", "runs", "deepseek", "removed"));

// Styles that drop nothing and add nothing give back the text, whatever it is.
class LosslessTest : public StyleTest {};

TEST_P(LosslessTest, RandomTextsComeBack) {
  test::Random random(11);
  for (int round = 0; round < 300; ++round) {
    const std::string text = test::RandomText(random, random.Below(200));
    const auto ids = tokenizer_->Encode(text);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(tokenizer_->Decode(*ids, false), text);
  }
}

TEST_P(LosslessTest, RandomBytesComeBackRepaired) {
  test::Random random(12);
  for (int round = 0; round < 300; ++round) {
    const std::string bytes = test::RandomBytes(random, random.Below(60));
    const std::string repaired = ReplaceMalformedUtf8(bytes);
    const auto ids = tokenizer_->Encode(bytes);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, *tokenizer_->Encode(repaired));
    EXPECT_EQ(tokenizer_->Decode(*ids, false), repaired);
  }
}

TEST_P(LosslessTest, LongRunsOfOneKindComeBack) {
  for (const char* unit : {"a", " ", "\n", "0", ".", "\xE4\xBD\xA0", "hello"}) {
    std::string text;
    while (text.size() < (1 << 18)) text += unit;
    const auto ids = tokenizer_->Encode(text);
    ASSERT_TRUE(ids.ok()) << unit << ": " << ids.status();
    EXPECT_EQ(tokenizer_->Decode(*ids, false), text) << unit;
  }
}

INSTANTIATE_TEST_SUITE_P(Styles, LosslessTest, testing::Values("gpt2", "llama", "digits", "deepseek"));

TEST(TokenizerTest, TheShippedTokenizerEncodesAsTheReferenceDoes) {
  const auto tokenizer = Load(YOIO_SOURCE_DIR "/models/yoio-tiny/tokenizer.json");
  const Json cases = ReadJson(YOIO_SOURCE_DIR "/tests/golden/tokenizer_cases.json");
  ExpectEncodes(*tokenizer, cases);
  for (const Json& c : cases) {
    EXPECT_EQ(tokenizer->Decode(c["ids"].get<std::vector<int32_t>>(), false), c["text"].get<std::string>());
  }
}

TEST(TokenizerTest, TellsTokensApart) {
  const auto tokenizer = Load(kTestdata + "gpt2.json");
  const int32_t end = tokenizer->Encode("<|end|>")->at(0);
  const int32_t tool = tokenizer->Encode("<tool>")->at(0);
  EXPECT_TRUE(tokenizer->IsSpecial(end));
  EXPECT_FALSE(tokenizer->IsSpecial(tool));
  EXPECT_EQ(tokenizer->TokenBytes(tool), "<tool>");
  EXPECT_EQ(tokenizer->Decode({end, tool}, true), "<tool>");
  EXPECT_EQ(tokenizer->vocab_size(), 317);
}

TEST(TokenizerTest, IdsWithoutATokenHaveNoBytes) {
  const auto tokenizer = Load(kTestdata + "gpt2.json");
  for (const int32_t id : {-1, 317, 1 << 30}) {
    EXPECT_EQ(tokenizer->TokenBytes(id), "");
    EXPECT_FALSE(tokenizer->IsSpecial(id));
    EXPECT_EQ(tokenizer->Decode({id}, false), "");
  }
}

TEST(TokenizerTest, HolesInTheNumberingAreAllowedWithinReason) {
  Json document = ReadTestJson("gpt2.json");
  document["added_tokens"].push_back(document["added_tokens"][0]);
  Json& token = document["added_tokens"].back();
  token["content"] = "<|far|>";
  token["id"] = 1000;
  auto parts = ParseTokenizerJson(document.dump(), "t.json");
  ASSERT_TRUE(parts.ok()) << parts.status();
  const BpeTokenizer tokenizer(*std::move(parts));
  EXPECT_EQ(tokenizer.vocab_size(), 1001);
  EXPECT_EQ(tokenizer.TokenBytes(999), "");
  EXPECT_THAT(*tokenizer.Encode("<|far|>"), ElementsAre(1000));

  token["id"] = 2'000'000'000;
  EXPECT_THAT(ParseStatus(document).message(), HasSubstr("'added_tokens[7].id' must be between 0 and"));
}

TEST(TokenizerTest, APatternThatExplodesIsStopped) {
  Json document = ReadTestJson("llama.json");
  document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(?:a+)+[bc]";
  auto parts = ParseTokenizerJson(document.dump(), "t.json");
  ASSERT_TRUE(parts.ok()) << parts.status();
  const auto ids = BpeTokenizer(*std::move(parts)).Encode(std::string(200, 'a'));
  EXPECT_TRUE(absl::IsResourceExhausted(ids.status())) << ids.status();
}

TEST(TokenizerTest, MissingFileIsNotFound) {
  const auto tokenizer = Tokenizer::FromFile("/nonexistent/tokenizer.json");
  EXPECT_TRUE(absl::IsNotFound(tokenizer.status()));
  EXPECT_THAT(tokenizer.status().message(), HasSubstr("/nonexistent/tokenizer.json"));
}

// A change of one value in a good file, and what the error must say.
struct BadFile {
  const char* style;
  const char* pointer;  // RFC 6901
  const char* value;
  const char* expected;
};

class BadFileTest : public testing::TestWithParam<BadFile> {};

TEST_P(BadFileTest, IsRefusedByName) {
  const BadFile& bad = GetParam();
  Json document = ReadTestJson(std::string(bad.style) + ".json");
  ASSERT_TRUE(ParseStatus(document).ok());
  document[Json::json_pointer(bad.pointer)] = Json::parse(bad.value);
  const absl::Status status = ParseStatus(document);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("t.json: "));
  EXPECT_THAT(std::string(status.message()), HasSubstr(bad.expected));
}

INSTANTIATE_TEST_SUITE_P(
    Files, BadFileTest,
    testing::Values(
        BadFile{"gpt2", "/model", "null", "'model' must be an object, got null"},
        BadFile{"gpt2", "/model/type", R"("WordPiece")", "'model.type' must be 'BPE', got 'WordPiece'"},
        BadFile{"gpt2", "/model/dropout", "0.1", "'model.dropout' must be null or 0, got 0.1"},
        BadFile{"gpt2", "/model/byte_fallback", "true", "'model.byte_fallback' must be false"},
        BadFile{"gpt2", "/model/end_of_word_suffix", R"("</w>")", "'model.end_of_word_suffix'"},
        BadFile{"gpt2", "/model/vocab", "[]", "'model.vocab' must be an object, got array"},
        BadFile{"gpt2", "/model/vocab", "{}", "a token for byte 0x00"},
        BadFile{"gpt2", "/model/vocab/a", "-1", "'model.vocab.a' must be between 0 and"},
        BadFile{"gpt2", "/model/vocab/a", "1.5", "'model.vocab.a' must be an integer, got number"},
        BadFile{"gpt2", "/model/vocab/a", "5", "must be an id that no other token has, got 5"},
        BadFile{"gpt2", "/model/vocab/a", "4000000000", "'model.vocab.a' must be between 0 and"},
        BadFile{"gpt2", "/model/merges", "{}", "'model.merges' must be an array, got object"},
        BadFile{"gpt2", "/model/merges/1", R"("in")", "'model.merges[1]' must be 'LEFT RIGHT'"},
        BadFile{"gpt2", "/model/merges/1", R"("i n g")", "'model.merges[1]'"},
        BadFile{"gpt2", "/model/merges/1", R"(["i", 5])", "'model.merges[1]'"},
        BadFile{"gpt2", "/model/merges/1", R"("q z")", "two tokens of the vocabulary that make a third"},
        BadFile{"gpt2", "/model/merges/1", R"("Ġ Ġ")", "'model.merges[1]' must be a pair not listed before"},
        BadFile{"gpt2", "/normalizer", R"({"type":"NFC"})", "'normalizer.type' must be absent"},
        BadFile{"gpt2", "/decoder", "null", "'decoder' must be an object, got null"},
        BadFile{"gpt2", "/decoder/type", R"("Metaspace")", "'decoder.type' must be 'ByteLevel'"},
        BadFile{"gpt2", "/post_processor", R"({"type":"BertProcessing"})", "'post_processor.type'"},
        BadFile{"gpt2", "/pre_tokenizer", "null", "'pre_tokenizer' must be an object, got null"},
        BadFile{"gpt2", "/pre_tokenizer/type", R"("Metaspace")", "got 'Metaspace'"},
        BadFile{"gpt2", "/pre_tokenizer/add_prefix_space", "1", "must be true or false, got integer"},
        BadFile{"llama", "/pre_tokenizer/pretokenizers/1/type", R"("Digits")",
                ".individual_digits' must be true or false, got nothing"},
        BadFile{"llama", "/pre_tokenizer/pretokenizers/0/behavior", R"("Contiguous")", "got 'Contiguous'"},
        BadFile{"llama", "/pre_tokenizer/pretokenizers/0/pattern/Regex", R"("\\bx")",
                "Regex' must be a supported pattern (at byte 0: \\b is not supported), got '\\\\bx'"},
        BadFile{"llama", "/pre_tokenizer/pretokenizers/0/pattern/Regex", R"("(x")", "missing closing"},
        BadFile{"llama", "/pre_tokenizer/pretokenizers/0/pattern/Regex", R"("x*")", "match the empty string"},
        BadFile{"llama", "/pre_tokenizer/pretokenizers", "[]", "a 'Sequence' that ends in one"},
        BadFile{"gpt2", "/added_tokens", "{}", "'added_tokens' must be an array, got object"},
        BadFile{"gpt2", "/added_tokens/0/lstrip", "true", "'added_tokens[0].lstrip' must be false, got true"},
        BadFile{"gpt2", "/added_tokens/0/content", R"("")", "'added_tokens[0].content'"},
        BadFile{"gpt2", "/added_tokens/1/content", "7", "'added_tokens[1].content' must be a string"},
        BadFile{"gpt2", "/added_tokens/0/id", "9", "'added_tokens[0].id' must be 0"},
        BadFile{"gpt2", "/added_tokens/1/id", "9", "'added_tokens[1].id' must be an id that no other"}));

// Files cut off, or with bytes changed, at random: an answer, never a crash.
TEST(TokenizerTest, DamagedFilesAreAnswered) {
  const std::string good = ReadTestJson("llama.json").dump();
  test::Random random(5);
  for (int round = 0; round < 400; ++round) {
    std::string bad = good;
    if (round % 2 == 0) bad.resize(random.Below(bad.size()));
    for (int i = 0; i < 1 + round % 4 && !bad.empty(); ++i)
      bad[random.Below(bad.size())] = "{}[]\",:0x\\\xFF"[random.Below(11)];
    auto parts = ParseTokenizerJson(bad, "t.json");
    if (!parts.ok()) {
      EXPECT_TRUE(absl::IsInvalidArgument(parts.status())) << parts.status();
    } else {
      EXPECT_TRUE(BpeTokenizer(*std::move(parts)).Encode("hello 123").ok());
    }
  }
}

}  // namespace
}  // namespace yoio
