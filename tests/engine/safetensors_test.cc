#include "engine/checkpoint/safetensors.h"

#include <cstring>

#include "engine/checkpoint/safetensors_header.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/support/random.h"
#include "tests/support/temporary_directory.h"

namespace yoio {
namespace {

using Json = nlohmann::json;
using test::TemporaryDirectory;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A file from its parts, whatever they say.
std::string FileOf(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + header + data;
}

Json Entry(const char* dtype, const Json& shape, int64_t begin, int64_t end) {
  return {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {begin, end}}};
}

// Two floats in "a", four bfloat16 in "b", one scalar integer in "c", nothing in "d".
Json GoodHeader() {
  return {{"__metadata__", {{"format", "pt"}}},
          {"a", Entry("F32", {2}, 0, 8)},
          {"b", Entry("BF16", {2, 2}, 8, 16)},
          {"c", Entry("I32", Json::array(), 16, 20)},
          {"d", Entry("F32", {3, 0}, 20, 20)}};
}

const std::string kData = "aaaabbbbccddeeffiiii";

std::string TextOf(const TensorView& view) {
  return std::string(reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size());
}

class SafetensorsTest : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Checkpoint>> OpenBytes(const std::string& bytes) {
    return Checkpoint::OpenFile(dir_.Write("x.safetensors", bytes));
  }
  absl::Status StatusOf(const std::string& bytes) { return OpenBytes(bytes).status(); }

  const TemporaryDirectory dir_;
};

TEST_F(SafetensorsTest, ReadsTensors) {
  const auto checkpoint = OpenBytes(FileOf(GoodHeader().dump() + "   ", kData));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto a = (*checkpoint)->Get("a");
  const auto b = (*checkpoint)->Get("b", std::vector<int64_t>{2, 2});
  const auto c = (*checkpoint)->Get("c", std::vector<int64_t>{});
  const auto d = (*checkpoint)->Get("d");
  ASSERT_TRUE(a.ok() && b.ok() && c.ok() && d.ok());
  EXPECT_EQ(a->type, TensorType::kF32);
  EXPECT_THAT(a->shape, ElementsAre(2));
  EXPECT_EQ(TextOf(*a), "aaaabbbb");
  EXPECT_EQ(b->type, TensorType::kBF16);
  EXPECT_EQ(TextOf(*b), "ccddeeff");
  EXPECT_EQ(c->type, TensorType::kI32);
  EXPECT_THAT(c->shape, IsEmpty());
  EXPECT_EQ(TextOf(*c), "iiii");
  EXPECT_EQ(TextOf(*d), "");
}

TEST_F(SafetensorsTest, GetNamesWhatIsWrong) {
  const auto checkpoint = OpenBytes(FileOf(GoodHeader().dump(), kData));
  ASSERT_TRUE(checkpoint.ok());
  const auto missing = (*checkpoint)->Get("e");
  EXPECT_TRUE(absl::IsNotFound(missing.status()));
  EXPECT_EQ(std::string(missing.status().message()), dir_.path() + "/x.safetensors: no tensor 'e'");
  const auto other = (*checkpoint)->Get("b", std::vector<int64_t>{4, 1});
  EXPECT_TRUE(absl::IsInvalidArgument(other.status()));
  EXPECT_THAT(std::string(other.status().message()),
              HasSubstr("tensor 'b' must have shape [4, 1], got [2, 2]"));
}

TEST_F(SafetensorsTest, GapsAreAllowed) {
  const Json header = {{"a", Entry("F32", {1}, 4, 8)}, {"b", Entry("F32", {1}, 12, 16)}};
  const auto checkpoint = OpenBytes(FileOf(header.dump(), kData));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(TextOf(*(*checkpoint)->Get("b")), "eeff");
}

TEST_F(SafetensorsTest, AFileThatEndsEarlyIsDataLoss) {
  const std::string good = FileOf(GoodHeader().dump(), kData);
  for (size_t size = 0; size < good.size(); ++size) {
    const absl::Status status = ParseSafetensorsHeader(good.substr(0, size), "x.safetensors").status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << size << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("x.safetensors: "));
  }
  EXPECT_TRUE(ParseSafetensorsHeader(good, "x.safetensors").ok());
  EXPECT_TRUE(absl::IsDataLoss(StatusOf("")));
  EXPECT_TRUE(absl::IsDataLoss(StatusOf(good.substr(0, good.size() - 1))));
}

TEST_F(SafetensorsTest, ALyingHeaderLengthIsNotBelieved) {
  const std::string good = FileOf(GoodHeader().dump(), kData);
  for (const uint64_t length : {uint64_t{100'000'001}, uint64_t{1} << 40, ~uint64_t{0}, ~uint64_t{0} - 7}) {
    std::string bad = good;
    std::memcpy(bad.data(), &length, sizeof(length));
    const absl::Status status = StatusOf(bad);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("header must have at most 100000000 bytes"));
  }
  std::string bad = good;
  const uint64_t length = 0;
  std::memcpy(bad.data(), &length, sizeof(length));
  EXPECT_TRUE(absl::IsInvalidArgument(StatusOf(bad)));
}

TEST_F(SafetensorsTest, HeadersThatAreNoObjectsAreRefused) {
  const std::string deep = std::string(1000, '[') + std::string(1000, ']');
  for (const std::string& header :
       {std::string("null"), std::string("[]"), std::string("{"), std::string("x"), std::string(64, '\0'),
        std::string("{\"a\":") + deep + "}", deep, std::string("{} {}")}) {
    EXPECT_TRUE(absl::IsInvalidArgument(StatusOf(FileOf(header, kData)))) << header.substr(0, 20);
  }
  const std::string twice = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                            R"("a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})";
  EXPECT_THAT(std::string(StatusOf(FileOf(twice, kData)).message()), HasSubstr("key 'a' appears twice"));
}

TEST_F(SafetensorsTest, AFieldThatLiesIsNamed) {
  struct Lie {
    const char* pointer;
    const char* value;
    const char* expected;
  };
  const Lie lies[] = {
      {"/a", "7", "key 'a' must be an object, got integer"},
      {"/a/dtype", "null", "key 'a.dtype' must be a string, got null"},
      {"/a/dtype", R"("F16")", "key 'a.dtype' must be F32, BF16 or I32, got 'F16'"},
      {"/a/dtype", R"("BF16")", "key 'a.data_offsets' must be 4 bytes apart, as shape and dtype say, got 8"},
      {"/a/shape", "{}", "key 'a.shape' must be an array, got object"},
      {"/a/shape", "2", "key 'a.shape' must be an array, got integer"},
      {"/a/shape/0", "-2", "key 'a.shape[0]' must be between 0 and"},
      {"/a/shape/0", "2.0", "key 'a.shape[0]' must be an integer, got number"},
      {"/a/shape/0", "3", "key 'a.data_offsets' must be 12 bytes apart, as shape and dtype say, got 8"},
      {"/a/shape", "[4611686018427387904, 2]", "key 'a.shape' must be of fewer than 2^63 bytes"},
      {"/a/shape", "[4294967296, 4294967296, 0]", "key 'a.shape' must be of fewer than 2^63 bytes"},
      {"/a/shape", "[18446744073709551615]", "key 'a.shape[0]' must be between 0 and"},
      {"/a/data_offsets", "[0]", "key 'a.data_offsets' must be [BEGIN, END]"},
      {"/a/data_offsets", "[0, 8, 8]", "key 'a.data_offsets' must be [BEGIN, END]"},
      {"/a/data_offsets", "[8, 0]", "key 'a.data_offsets' must be [BEGIN, END]"},
      {"/a/data_offsets", "[-8, 0]", "key 'a.data_offsets[0]' must be between 0 and"},
      {"/a/data_offsets", R"(["0", 8])", "key 'a.data_offsets[0]' must be an integer, got string"},
      {"/a/data_offsets", "[1, 9]", "tensors 'a' and 'b' must not overlap"},
      {"/b/data_offsets", "[4, 12]", "tensors 'a' and 'b' must not overlap"},
      {"/b/data_offsets", "[0, 8]", "must not overlap"},
  };
  for (const auto& [pointer, value, expected] : lies) {
    Json header = GoodHeader();
    header[Json::json_pointer(pointer)] = Json::parse(value);
    const absl::Status status = StatusOf(FileOf(header.dump(), kData));
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << pointer << " " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("x.safetensors: "));
    EXPECT_THAT(std::string(status.message()), HasSubstr(expected));
  }
}

TEST_F(SafetensorsTest, OffsetsBeyondTheFileAreDataLoss) {
  for (const int64_t begin : {int64_t{13}, int64_t{20}, int64_t{1} << 40, INT64_MAX - 8}) {
    Json header = GoodHeader();
    header["a"]["data_offsets"] = {begin, begin + 8};
    const absl::Status status = StatusOf(FileOf(header.dump(), kData));
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("key 'a.data_offsets' must be inside the file"));
  }
}

// Bytes of a good header changed at random: an error, or tensors that lie inside the file.
TEST_F(SafetensorsTest, DamagedHeadersAreAnswered) {
  static constexpr std::string_view kBytes = "0123456789[]{}\",:-.eabFI";
  const std::string good = GoodHeader().dump();
  test::Random random(31);
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string header = good;
    for (int i = 0; i < 1 + round % 3; ++i) {
      const char byte = kBytes[random.Below(kBytes.size())];
      header[random.Below(header.size())] = byte;
    }
    const std::string file = FileOf(header, kData);
    const auto parsed = ParseSafetensorsHeader(file, "x");
    if (!parsed.ok()) continue;
    ++accepted;
    for (const SafetensorsHeader::Tensor& tensor : parsed->tensors) {
      const auto* begin = reinterpret_cast<const char*>(tensor.view.bytes.data());
      EXPECT_GE(begin, file.data() + sizeof(uint64_t) + header.size());
      EXPECT_LE(begin + tensor.view.bytes.size(), file.data() + file.size());
    }
  }
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, 10000);
}

TEST_F(SafetensorsTest, TheFingerprintFollowsHeadersAndData) {
  const std::string good = FileOf(GoodHeader().dump(), kData);
  const std::string fingerprint = (*OpenBytes(good))->fingerprint();
  EXPECT_EQ(fingerprint, "1f657d34d6afaebc");
  EXPECT_EQ((*OpenBytes(good))->fingerprint(), fingerprint);
  EXPECT_NE((*OpenBytes(FileOf(GoodHeader().dump() + " ", kData)))->fingerprint(), fingerprint);
  std::string retrained = kData;
  retrained[8] = 'C';
  EXPECT_NE((*OpenBytes(FileOf(GoodHeader().dump(), retrained)))->fingerprint(), fingerprint);
}

TEST_F(SafetensorsTest, ADirectoryHoldsOneFile) {
  dir_.Write("model.safetensors", FileOf(GoodHeader().dump(), kData));
  const auto checkpoint = Checkpoint::Open(dir_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE((*checkpoint)->Get("a").ok());
}

TEST_F(SafetensorsTest, ADirectoryWithoutAnyIsNotFound) {
  for (const std::string& dir : {dir_.path(), std::string("/nonexistent")}) {
    const absl::Status status = Checkpoint::Open(dir).status();
    EXPECT_TRUE(absl::IsNotFound(status));
    EXPECT_EQ(std::string(status.message()),
              dir + ": holds neither model.safetensors nor model.safetensors.index.json");
  }
}

class ShardedTest : public SafetensorsTest {
 protected:
  ShardedTest() {
    dir_.Write("one.safetensors", FileOf(Json({{"a", Entry("F32", {2}, 0, 8)}}).dump(), kData));
    dir_.Write("two.safetensors", FileOf(Json({{"b", Entry("F32", {2}, 8, 16)}}).dump(), kData));
  }

  absl::StatusOr<std::unique_ptr<Checkpoint>> OpenWith(const Json& weight_map) {
    dir_.Write("model.safetensors.index.json", Json({{"weight_map", weight_map}}).dump());
    return Checkpoint::Open(dir_.path());
  }
  std::string ErrorWith(const Json& weight_map) {
    return std::string(OpenWith(weight_map).status().message());
  }
};

TEST_F(ShardedTest, ReadsAllFiles) {
  const auto checkpoint = OpenWith({{"a", "one.safetensors"}, {"b", "two.safetensors"}});
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(TextOf(*(*checkpoint)->Get("a")), "aaaabbbb");
  EXPECT_EQ(TextOf(*(*checkpoint)->Get("b")), "ccddeeff");
}

TEST_F(ShardedTest, IndexAndFilesMustAgree) {
  EXPECT_THAT(ErrorWith({{"a", "one.safetensors"}, {"b", "one.safetensors"}}),
              HasSubstr("one.safetensors: must hold tensor 'b', which "));
  EXPECT_THAT(ErrorWith({{"a", "two.safetensors"}, {"b", "one.safetensors"}}),
              HasSubstr("must list tensor 'a' in file 'one.safetensors', which holds it"));
  EXPECT_THAT(ErrorWith({{"a", "one.safetensors"}, {"c", "two.safetensors"}}),
              HasSubstr("must list tensor 'b' in file 'two.safetensors', which holds it"));
  dir_.Write("two.safetensors", FileOf(GoodHeader().dump(), kData));
  EXPECT_THAT(ErrorWith({{"a", "one.safetensors"}, {"b", "two.safetensors"}}),
              HasSubstr("two.safetensors: tensor 'a' is in another file too"));
}

TEST_F(ShardedTest, AMissingShardIsNotFound) {
  const absl::Status status = OpenWith({{"a", "one.safetensors"}, {"b", "three.safetensors"}}).status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("/three.safetensors: "));
}

TEST_F(ShardedTest, FileNamesStayInTheDirectory) {
  for (const char* name : {"../one.safetensors", "/etc/passwd", "sub/one.safetensors", "..", ""}) {
    EXPECT_THAT(ErrorWith({{"a", name}}),
                HasSubstr("key 'weight_map.a' must be the name of a file in the same"));
  }
  EXPECT_THAT(ErrorWith({{"a", std::string("one\0x", 5)}}), HasSubstr("key 'weight_map.a' must be the name"));
  EXPECT_THAT(ErrorWith({{"a", 1}}), HasSubstr("key 'weight_map.a' must be a string, got integer"));
  EXPECT_THAT(ErrorWith("one.safetensors"), HasSubstr("key 'weight_map' must be an object, got string"));
}

TEST_F(ShardedTest, ABrokenIndexIsRefused) {
  for (const char* text : {"", "[]", "{}", "{\"weight_map\":{\"a\":\"x\",\"a\":\"y\"}}"}) {
    dir_.Write("model.safetensors.index.json", text);
    const absl::Status status = Checkpoint::Open(dir_.path()).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("model.safetensors.index.json: "));
  }
}

TEST(CommittedCheckpointsTest, AreReadable) {
  for (const char* dir : {"models/yoio-tiny", "tests/golden/micro", "tests/golden/micro_gqa"}) {
    const auto checkpoint = Checkpoint::Open(std::string(YOIO_SOURCE_DIR "/") + dir);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_TRUE((*checkpoint)->Get("model.embed_tokens.weight").ok());
  }
}

}  // namespace
}  // namespace yoio
