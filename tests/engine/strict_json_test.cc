#include "engine/files/strict_json.h"

#include "engine/files/json_cursor.h"
#include "engine/files/mapped_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/support/random_text.h"

namespace yoio {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;

TEST(StrictJsonTest, BuildsWhatTheLibraryBuilds) {
  const std::string text =
      R"( {"a":[1,-2,3.5,true,false,null,"\u00e9\n",[],{}],"b":{"c":{"d":[[],[[1]]]}},"":0} )";
  EXPECT_EQ(*ParseJson(text, "x"), Json::parse(text));
  for (const char* scalar : {"1", "\"s\"", "null", "[]", "18446744073709551615", "-9223372036854775808"}) {
    EXPECT_EQ(*ParseJson(scalar, "x"), Json::parse(scalar));
  }
}

TEST(StrictJsonTest, RandomDocumentsComeBack) {
  test::Random random(23);
  const auto make = [&](auto& self, int depth) -> Json {
    switch (random.Below(depth > 4 ? 4 : 6)) {
      case 0:
        return static_cast<int64_t>(random.Bits());
      case 1:
        return test::RandomText(random, random.Below(9));
      case 2:
        return random.Below(2) == 0;
      case 3:
        return random.Uniform() * 1e9;
      case 4: {
        Json array = Json::array();
        for (int i = random.Below(5); i > 0; --i) array.push_back(self(self, depth + 1));
        return array;
      }
      default: {
        Json object = Json::object();
        for (int i = random.Below(5); i > 0; --i)
          object[std::to_string(random.Below(20))] = self(self, depth + 1);
        return object;
      }
    }
  };
  for (int round = 0; round < 500; ++round) {
    const Json document = make(make, 0);
    EXPECT_EQ(*ParseJson(document.dump(), "x"), document);
  }
}

TEST(StrictJsonTest, RefusesWithTheOriginsName) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "f.json: not valid JSON near byte"},
      {"{", "not valid JSON"},
      {"{} {}", "not valid JSON"},
      {"{'a':1}", "not valid JSON"},
      {"[1,]", "not valid JSON"},
      {"NaN", "not valid JSON"},
      {"1e999", "not valid JSON"},
      {"\"\xFF\"", "not valid JSON"},
      {R"({"a":{"b":1,"b":2}})", "key 'b' appears twice in one object"},
      {std::string(100'000, '['), "nested deeper than 32"},
      {std::string(33, '[') + std::string(33, ']'), "nested deeper than 32"},
  };
  for (const auto& [text, expected] : cases) {
    const auto document = ParseJson(text, "f.json");
    EXPECT_TRUE(absl::IsInvalidArgument(document.status())) << text.substr(0, 40);
    EXPECT_THAT(document.status().message(), HasSubstr(expected));
    EXPECT_THAT(document.status().message(), HasSubstr("f.json: "));
  }
  EXPECT_TRUE(ParseJson(std::string(32, '[') + std::string(32, ']'), "f.json").ok());
}

TEST(StrictJsonTest, QuotesForMessages) {
  EXPECT_EQ(Quoted("a'b\n"), "'a\\'b\\n'");
  EXPECT_LT(Quoted(std::string(100'000, 'x')).size(), 200u);
}

TEST(JsonCursorTest, ErrorsSayWhereAndWhat) {
  const Json document = Json::parse(R"({"a":{"b":[1,"x",2.5,-1,18446744073709551615]},"n":null})");
  const JsonCursor root(document, "c.json");
  const JsonCursor b = root["a"]["b"];
  EXPECT_EQ(*b[0].Integer(1, 1), 1);
  EXPECT_EQ(*b[1].String(), "x");
  EXPECT_EQ(*b[2].Number(), 2.5);
  EXPECT_EQ(*b[3].Number(), -1);
  EXPECT_TRUE(root["n"].IsMissingOrNull());
  EXPECT_FALSE(root["n"].IsMissing());
  EXPECT_TRUE(root["a"]["nothing"]["there"][3].IsMissing());
  const auto message = [](const auto& result) { return std::string(result.status().message()); };
  EXPECT_EQ(message(b[1].Integer(0, 9)), "c.json: key 'a.b[1]' must be an integer, got string");
  EXPECT_EQ(message(b[2].Integer(0, 9)), "c.json: key 'a.b[2]' must be an integer, got number");
  EXPECT_EQ(message(b[3].Integer(0, 9)), "c.json: key 'a.b[3]' must be between 0 and 9, got -1");
  EXPECT_EQ(message(b[4].Integer(-9, 9)),
            "c.json: key 'a.b[4]' must be between -9 and 9, got 18446744073709551615");
  EXPECT_EQ(message(b[9].Integer(0, 9)), "c.json: key 'a.b[9]' must be an integer, got nothing");
  EXPECT_EQ(message(root["n"].Bool()), "c.json: key 'n' must be true or false, got null");
  EXPECT_EQ(root.IsArray().message(), "c.json: the document must be an array, got object");
}

TEST(MappedFileTest, RefusesWhatIsNoFile) {
  EXPECT_TRUE(absl::IsNotFound(MappedFile::Open("/nonexistent/x").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(MappedFile::Open("/dev/null").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(MappedFile::Open("/tmp").status()));
  const std::string here = std::string(YOIO_SOURCE_DIR) + "/tests/engine/strict_json_test.cc";
  EXPECT_TRUE(MappedFile::Open(here).ok());
  EXPECT_THAT(MappedFile::Open(here, 10).status().message(), HasSubstr("must have at most 10 bytes, got"));
}

}  // namespace
}  // namespace yoio
