// The table of keys: what the file may say, and who has a key.
#include "server/api_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace yoio {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// printf %s KEY | sha256sum
constexpr char kAlpha[] = "8ed3f6ad685b959ead7022518e1af76cd816f8e8ec7ccdda1ed4018e8f2223f8";  // alpha
constexpr char kBeta[] = "f44e64e75f3948e9f73f8dfa94721c4ce8cbb4f265c4790c702b2d41cfbf2753";   // beta
constexpr TenantLimits kDefaults{
    .max_requests = 5, .max_queued_tokens = 600, .max_cache_share = 0.7, .weight = 1};

absl::StatusOr<ApiKeys> Parse(const std::string& json) {
  return ApiKeys::Parse(json, "keys.json", kDefaults);
}

std::string Mistake(const std::string& json) {
  const absl::StatusOr<ApiKeys> keys = Parse(json);
  EXPECT_TRUE(absl::IsInvalidArgument(keys.status())) << json;
  EXPECT_THAT(std::string(keys.status().message()), HasSubstr("keys.json: "));
  return std::string(keys.status().message());
}

TEST(ApiKeysTest, FindsWhoHasAKeyAndNobodyElse) {
  const auto keys = Parse(absl::StrCat(R"([{"sha256": ")", kAlpha, R"(", "tenant": "search"},
      {"sha256": ")",
                                       kBeta, R"(", "tenant": "search", "max_priority": "high",
       "limits": {"max_requests": 9, "weight": 2.5}}])"));
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_EQ(keys->size(), 2u);
  const Caller* alpha = keys->Find("alpha");
  ASSERT_NE(alpha, nullptr);
  EXPECT_EQ(alpha->tenant, "search");
  EXPECT_EQ(alpha->max_priority, Priority::kNormal);
  EXPECT_EQ(alpha->limits, kDefaults);
  const Caller* beta = keys->Find("beta");
  ASSERT_NE(beta, nullptr);
  EXPECT_EQ(beta->max_priority, Priority::kHigh);
  EXPECT_EQ(
      beta->limits,
      (TenantLimits{.max_requests = 9, .max_queued_tokens = 600, .max_cache_share = 0.7, .weight = 2.5}));
  for (const std::string& nobody :
       {std::string(), std::string("Alpha"), std::string("alpha "), std::string("alpha\0", 6),
        std::string(kAlpha), std::string(10000, 'a')}) {
    EXPECT_EQ(keys->Find(nobody), nullptr) << nobody.substr(0, 20);
  }
}

TEST(ApiKeysTest, AnEmptyTableLetsNobodyIn) {
  const auto keys = Parse("[]");
  ASSERT_TRUE(keys.ok());
  EXPECT_EQ(keys->Find("alpha"), nullptr);
  EXPECT_EQ(keys->Find(""), nullptr);
}

TEST(ApiKeysTest, FindsEachOfMany) {
  std::string json = "[";
  for (int i = 0; i < 1000; ++i) {
    absl::StrAppendFormat(&json, R"({"sha256": "%064x", "tenant": "t%d"},)", i, i);
  }
  absl::StrAppend(&json, R"({"sha256": ")", kAlpha, R"(", "tenant": "last"}])");
  const auto keys = Parse(json);
  ASSERT_TRUE(keys.ok()) << keys.status();
  ASSERT_NE(keys->Find("alpha"), nullptr);
  EXPECT_EQ(keys->Find("alpha")->tenant, "last");
  EXPECT_EQ(keys->Find("beta"), nullptr);
}

TEST(ApiKeysTest, MistakesNameTheEntryAndRepeatNoKey) {
  const std::string hash = absl::StrCat(R"("sha256": ")", kAlpha, "\"");
  EXPECT_THAT(Mistake("{}"), HasSubstr("array"));
  EXPECT_THAT(Mistake("[1]"), HasSubstr("[0]"));
  EXPECT_THAT(Mistake(R"([{"tenant": "a"}])"), HasSubstr("sha256"));
  EXPECT_THAT(Mistake(absl::StrCat("[{", hash, "}]")), HasSubstr("tenant"));
  EXPECT_THAT(Mistake(absl::StrCat("[{", hash, R"(, "tenant": "a b"}])")), HasSubstr("tenant"));
  EXPECT_THAT(Mistake(absl::StrCat("[{", hash, R"(, "tenant": ""}])")), HasSubstr("tenant"));
  EXPECT_THAT(Mistake(absl::StrCat("[{", hash, R"(, "tenant": "a", "key": 1}])")), HasSubstr("key"));
  for (const char* limits : {R"({"max_requests": -1})", R"({"max_requests": 3000000000})",
                             R"({"max_queued_tokens": 1.5})", R"({"max_cache_share": 0})",
                             R"({"max_cache_share": 1.01})", R"({"weight": "2"})", R"({"burst": 2})", "[]"}) {
    EXPECT_THAT(Mistake(absl::StrCat("[{", hash, R"(, "tenant": "a", "limits": )", limits, "}]")),
                HasSubstr("[0].limits"))
        << limits;
  }
  EXPECT_THAT(Mistake(R"([{"sha256": "my-secret-key", "tenant": "a"}])"),
              AllOf(HasSubstr("[0].sha256"), Not(HasSubstr("my-secret-key"))));
  const std::string entry = absl::StrCat("{", hash, R"(, "tenant": "a"})");
  EXPECT_THAT(Mistake(absl::StrCat("[", entry, ",", entry, "]")), HasSubstr("[1].sha256"));
}

TEST(ApiKeysTest, TenantNames) {
  for (const char* good : {"a", "search-1", "A.b_c:d"}) EXPECT_TRUE(IsTenantName(good)) << good;
  for (const char* bad : {"", " ", "a b", "a/b", "\xc3\xa4", "a\n"}) EXPECT_FALSE(IsTenantName(bad)) << bad;
  EXPECT_TRUE(IsTenantName(std::string(128, 'a')));
  EXPECT_FALSE(IsTenantName(std::string(129, 'a')));
}

}  // namespace
}  // namespace yoio
