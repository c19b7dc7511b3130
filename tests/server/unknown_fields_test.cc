// Fields and enum values from a newer schema are found wherever they hide.
#include "server/unknown_fields.h"

#include <gmock/gmock.h>
#include <google/protobuf/unknown_field_set.h>
#include <gtest/gtest.h>

#include "engine/errors.h"
#include "yoio/v1/inference.pb.h"

namespace yoio {
namespace {

using testing::HasSubstr;

void AddUnknown(google::protobuf::Message& message, int number) {
  message.GetReflection()->MutableUnknownFields(&message)->AddVarint(number, 1);
}

TEST(UnknownFieldsTest, KnownFieldsPass) {
  v1::GenerateRequest request;
  request.set_text("a");
  request.set_priority(v1::PRIORITY_HIGH);
  request.mutable_sampling()->set_temperature(1);
  (*request.mutable_sampling()->mutable_logit_bias())[4] = 2;
  EXPECT_TRUE(CheckNothingUnknown(request).ok());
}

TEST(UnknownFieldsTest, UnknownFieldIsNamedByPathAndNumber) {
  v1::GenerateOnceRequest request;
  AddUnknown(request, 900);
  AddUnknown(*request.mutable_request()->mutable_sampling(), 77);
  AddUnknown(*request.mutable_request()->mutable_time_budget(), 5);
  const absl::Status status = CheckNothingUnknown(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(ReasonOf(status), "UNKNOWN_FIELD");
  EXPECT_THAT(std::string(status.message()), HasSubstr("unknown field: #900"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("unknown field: request.sampling.#77"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("unknown field: request.time_budget.#5"));
}

TEST(UnknownFieldsTest, UnknownFieldSurvivesTheWire) {
  v1::GenerateRequest sent;
  sent.set_text("a");
  AddUnknown(sent, 1234);
  v1::GenerateRequest received;
  ASSERT_TRUE(received.ParseFromString(sent.SerializeAsString()));
  EXPECT_THAT(std::string(CheckNothingUnknown(received).message()), HasSubstr("#1234"));
}

TEST(UnknownFieldsTest, UnknownEnumValueIsNamed) {
  v1::GenerateRequest request;
  request.set_priority(static_cast<v1::Priority>(42));
  const absl::Status status = CheckNothingUnknown(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("unknown value of priority: 42"));
}

TEST(UnknownFieldsTest, MessageStaysShortHoweverManyThereAre) {
  v1::GenerateRequest request;
  for (int i = 0; i < 10000; ++i) AddUnknown(request, 100 + i);
  EXPECT_LT(CheckNothingUnknown(request).message().size(), 500u);
}

}  // namespace
}  // namespace yoio
