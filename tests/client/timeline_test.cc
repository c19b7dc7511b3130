// A profile as a picture.
#include "client/commands/timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <string>

#include "client/commands/gunzip.h"
#include "tests/client/well_formed.h"

namespace yoio {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string Gzip(std::string content) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string compressed(deflateBound(&stream, content.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(content.data());
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(compressed.data());
  stream.avail_out = static_cast<uInt>(compressed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  compressed.resize(stream.total_out);
  deflateEnd(&stream);
  return compressed;
}

// Two ranks and one step of 100 ms, as a server writes it.
constexpr char kProfile[] = R"({"displayTimeUnit":"ms","otherData":{},"traceEvents":[
{"ph":"M","name":"process_name","pid":1,"tid":0,"args":{"name":"engine"}},
{"ph":"M","name":"thread_name","pid":1,"tid":0,"args":{"name":"engine"}},
{"ph":"M","name":"thread_name","pid":2,"tid":0,"args":{"name":"rank 0"}},
{"ph":"M","name":"thread_name","pid":2,"tid":1,"args":{"name":"rank 1"}},
{"ph":"X","name":"plan","pid":1,"tid":0,"ts":0.0,"dur":50.0,"args":{"step":7}},
{"ph":"X","name":"step","pid":1,"tid":0,"ts":50.0,"dur":100000.0,"args":{"step":7,"requests":2,
  "members":[{"id":"<one>","tokens":512},{"id":"two","tokens":1}]}},
{"ph":"C","name":"running","pid":1,"ts":50.0,"args":{"running":2}},
{"ph":"X","name":"self_decoder","pid":2,"tid":0,"ts":50.0,"dur":20000.0,"args":{"step":7}},
{"ph":"X","name":"index_broadcast","pid":2,"tid":0,"ts":20050.0,"dur":80000.0,"args":{"step":7}},
{"ph":"X","name":"self_decoder","pid":2,"tid":1,"ts":50.0,"dur":100000.0,"args":{"step":7}}
]}
)";

TEST(TimelineSvg, EveryRankHasALane) {
  const absl::StatusOr<std::string> svg = TimelineSvg(Gzip(kProfile));
  ASSERT_TRUE(svg.ok()) << svg.status();
  ExpectWellFormed(*svg);
  for (const char* lane : {">engine</text>", ">rank 0</text>", ">rank 1</text>"}) {
    EXPECT_THAT(*svg, HasSubstr(lane));
  }
  EXPECT_THAT(*svg, HasSubstr("step 7, 100 ms\n&lt;one&gt;: 512 tokens\ntwo: 1 tokens"));
  EXPECT_THAT(*svg, HasSubstr("index_broadcast of step 7, 80.0 ms"));
  EXPECT_THAT(*svg, HasSubstr("prefers-color-scheme: dark"));
  EXPECT_THAT(*svg, Not(HasSubstr("nan")));
}

TEST(TimelineSvg, AProfileWithoutStepsIsAnEmptyPicture) {
  const absl::StatusOr<std::string> svg = TimelineSvg(Gzip(R"({"traceEvents":[]})"));
  ASSERT_TRUE(svg.ok()) << svg.status();
  ExpectWellFormed(*svg);
}

TEST(TimelineSvg, WhatIsNoProfileIsRefused) {
  const std::string whole = Gzip(kProfile);
  for (const std::string& wrong :
       {std::string(), std::string("plain"), whole.substr(0, whole.size() / 2), Gzip("no JSON"), Gzip("[1]"),
        Gzip("{}"), Gzip(R"({"traceEvents":[{"ph":"X","pid":"one"}]})"), Gzip(R"({"traceEvents":[5]})")}) {
    EXPECT_EQ(TimelineSvg(wrong).status().code(), absl::StatusCode::kInvalidArgument) << wrong;
  }
}

TEST(Gunzip, GivesBackWhatWasCompressed) {
  std::string content;
  for (int i = 0; i < 100'000; ++i) content += std::to_string(i * 7919);
  EXPECT_EQ(*Gunzip(Gzip(content)), content);
  EXPECT_EQ(*Gunzip(Gzip("")), "");
}

}  // namespace
}  // namespace yoio
