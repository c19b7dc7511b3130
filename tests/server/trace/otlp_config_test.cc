// OpenTelemetry's environment: what it sets, and what is said when it is wrong.
#include "server/trace/otlp_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "server/version.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;

const std::pair<std::string, std::string> kEndpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT",
                                                       "http://collector:4317"};

struct Read {
  TraceOptions options;
  std::vector<Setting> settings;

  AttributeValue Attribute(const std::string& key) const {
    for (const auto& [name, value] : options.resource) {
      if (name == key) return value;
    }
    return false;
  }
  std::string Text(const std::string& key) const {
    const AttributeValue value = Attribute(key);
    const auto* text = std::get_if<std::string>(&value);
    return text == nullptr ? "no text" : *text;
  }
  std::string Shown(const std::string& variable) const {
    for (const Setting& setting : settings) {
      if (setting.flag == variable) return setting.value + " by " + setting.origin;
    }
    return "not shown";
  }
};

Read ReadAll(const Environment& environment) {
  Read read;
  const absl::Status status = ReadTraceEnvironment(environment, read.options, read.settings);
  EXPECT_TRUE(status.ok()) << status;
  return read;
}

std::string Mistake(Environment environment) {
  TraceOptions options;
  std::vector<Setting> settings;
  const absl::Status status = ReadTraceEnvironment(environment, options, settings);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  return std::string(status.message());
}

TEST(OtlpConfigTest, TracingIsOffUnlessItIsAskedFor) {
  for (const Environment& off :
       {Environment{}, Environment{{"OTEL_SERVICE_NAME", "chat"}, {"OTEL_EXPORTER_OTLP_ENDPOINT", ""}},
        Environment{kEndpoint, {"OTEL_TRACES_EXPORTER", "none"}},
        Environment{kEndpoint, {"OTEL_SDK_DISABLED", "true"}},
        Environment{{"OTEL_TRACES_EXPORTER", "otlp"}, {"OTEL_SDK_DISABLED", "TRUE"}}}) {
    const Read read = ReadAll(off);
    EXPECT_FALSE(read.options.enabled);
    EXPECT_TRUE(read.settings.empty());
  }
  EXPECT_TRUE(ReadAll({kEndpoint}).options.enabled);
  EXPECT_TRUE(ReadAll({kEndpoint, {"OTEL_SDK_DISABLED", "false"}}).options.enabled);
  EXPECT_TRUE(ReadAll({{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a:1"}}).options.enabled);
  EXPECT_TRUE(ReadAll({{"OTEL_TRACES_EXPORTER", "otlp"}}).options.enabled);
}

TEST(OtlpConfigTest, DefaultsAreTheSpecifications) {
  const Read read = ReadAll({{"OTEL_TRACES_EXPORTER", "otlp"}});
  const TraceOptions& options = read.options;
  EXPECT_EQ(options.otlp.target, "localhost:4317");
  EXPECT_FALSE(options.otlp.tls);
  EXPECT_FALSE(options.otlp.gzip);
  EXPECT_EQ(options.otlp.timeout, seconds(10));
  EXPECT_EQ(options.otlp.schedule_delay, seconds(5));
  EXPECT_EQ(options.otlp.max_queue, 2048u);
  EXPECT_EQ(options.otlp.max_batch, 512u);
  EXPECT_EQ(options.limits.links, 128u);
  EXPECT_TRUE(options.sampler.parent_based);
  EXPECT_EQ(options.sampler.ratio, 1);
  EXPECT_EQ(read.Text("service.name"), "yoio-server");
  EXPECT_EQ(read.Text("service.version"), kVersion);
  EXPECT_EQ(read.Attribute("process.pid"), AttributeValue(int64_t{getpid()}));
  EXPECT_NE(read.Text("host.name"), "no text");
  EXPECT_EQ(read.Text("k8s.pod.name"), "no text");
  EXPECT_THAT(read.Text("service.instance.id"),
              testing::MatchesRegex("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
  EXPECT_EQ(read.Shown("OTEL_TRACES_SAMPLER"), "parentbased_always_on by default");
  EXPECT_EQ(read.Shown("OTEL_EXPORTER_OTLP_ENDPOINT"), "http://localhost:4317 by default");
  EXPECT_EQ(read.Shown("OTEL_EXPORTER_OTLP_HEADERS"), "unset by default");
}

TEST(OtlpConfigTest, TheUsualPortsNeedNotBeNamed) {
  const auto shown = [](const char* endpoint) {
    return ReadAll({{"OTEL_EXPORTER_OTLP_ENDPOINT", endpoint}}).Shown("OTEL_EXPORTER_OTLP_ENDPOINT");
  };
  EXPECT_EQ(shown("https://collector.example.com"), "https://collector.example.com:443 by environment");
  EXPECT_EQ(shown("http://collector/"), "http://collector:80 by environment");
  EXPECT_EQ(shown("http://[::1]"), "http://[::1]:80 by environment");
  EXPECT_EQ(shown("http://[::1]:4317"), "http://[::1]:4317 by environment");
}

TEST(OtlpConfigTest, EveryVariableIsTaken) {
  const Read read = ReadAll({{"OTEL_EXPORTER_OTLP_ENDPOINT", "https://[::1]:443/"},
                             {"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"},
                             {"OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca"},
                             {"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/crt"},
                             {"OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key"},
                             {"OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20s3cret%3D, x-tenant=a"},
                             {"OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"},
                             {"OTEL_EXPORTER_OTLP_TIMEOUT", "2500"},
                             {"OTEL_BSP_SCHEDULE_DELAY", "100"},
                             {"OTEL_BSP_MAX_QUEUE_SIZE", "40"},
                             {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "20"},
                             {"OTEL_SPAN_LINK_COUNT_LIMIT", "3"},
                             {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "200"}});
  const TraceOptions& options = read.options;
  EXPECT_EQ(options.otlp.target, "[::1]:443");
  EXPECT_TRUE(options.otlp.tls);
  EXPECT_EQ(options.otlp.ca_file, "/ca");
  EXPECT_EQ(options.otlp.certificate_file, "/crt");
  EXPECT_EQ(options.otlp.key_file, "/key");
  EXPECT_THAT(options.otlp.headers,
              ElementsAre(Pair("authorization", "Bearer s3cret="), Pair("x-tenant", "a")));
  EXPECT_TRUE(options.otlp.gzip);
  EXPECT_EQ(options.otlp.timeout, milliseconds(2500));
  EXPECT_EQ(options.otlp.schedule_delay, milliseconds(100));
  EXPECT_EQ(options.otlp.max_queue, 40u);
  EXPECT_EQ(options.otlp.max_batch, 20u);
  EXPECT_EQ(options.limits.links, 3u);
  EXPECT_EQ(options.limits.value_bytes, 200u);
}

TEST(OtlpConfigTest, HeadersAreNeverShown) {
  const Read read = ReadAll({kEndpoint, {"OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret"}});
  EXPECT_EQ(read.Shown("OTEL_EXPORTER_OTLP_HEADERS"), "set by environment");
  for (const Setting& setting : read.settings) EXPECT_THAT(setting.value, Not(HasSubstr("s3cret")));
  for (const char* bad : {"s3cret", "a=s3cret%", "a=s3cret%0a", "a=s3cret%ff", "grpc-x=s3cret", "=s3cret",
                          "a b=s3cret", "x-bin=s3cret"}) {
    EXPECT_THAT(Mistake({kEndpoint, {"OTEL_EXPORTER_OTLP_HEADERS", bad}}),
                AllOf(HasSubstr("OTEL_EXPORTER_OTLP_HEADERS: expected"), Not(HasSubstr("s3cret"))));
  }
}

TEST(OtlpConfigTest, TheVariableOfTracesWins) {
  const Read read = ReadAll({kEndpoint,
                             {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317"},
                             {"OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"},
                             {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"},
                             {"OTEL_EXPORTER_OTLP_HEADERS", "a=1"},
                             {"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "b=2"}});
  EXPECT_EQ(read.options.otlp.target, "traces:4317");
  EXPECT_THAT(read.options.otlp.headers, ElementsAre(Pair("b", "2")));
}

TEST(OtlpConfigTest, AnEndpointWithoutASchemeIsSecureUnlessItIsSaidNotToBe) {
  const std::pair<std::string, std::string> bare = {"OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"};
  EXPECT_TRUE(ReadAll({bare}).options.otlp.tls);
  EXPECT_FALSE(ReadAll({bare, {"OTEL_EXPORTER_OTLP_INSECURE", "true"}}).options.otlp.tls);
  EXPECT_FALSE(ReadAll({kEndpoint, {"OTEL_EXPORTER_OTLP_INSECURE", "false"}}).options.otlp.tls);
}

TEST(OtlpConfigTest, Samplers) {
  const auto sampler = [](const std::string& name, const std::string& argument) {
    const SamplerOptions options =
        ReadAll({kEndpoint, {"OTEL_TRACES_SAMPLER", name}, {"OTEL_TRACES_SAMPLER_ARG", argument}})
            .options.sampler;
    return std::pair(options.parent_based, options.ratio);
  };
  EXPECT_THAT(sampler("always_on", "0.5"), Pair(false, 1.0));
  EXPECT_THAT(sampler("always_off", ""), Pair(false, 0.0));
  EXPECT_THAT(sampler("traceidratio", "0.5"), Pair(false, 0.5));
  EXPECT_THAT(sampler("traceidratio", ""), Pair(false, 1.0));
  EXPECT_THAT(sampler("parentbased_always_on", "0.5"), Pair(true, 1.0));
  EXPECT_THAT(sampler("parentbased_always_off", ""), Pair(true, 0.0));
  EXPECT_THAT(sampler("parentbased_traceidratio", "0.01"), Pair(true, 0.01));
}

TEST(OtlpConfigTest, WhatTheOperatorSaysOfTheProcessGoesFirst) {
  const Environment cluster = {kEndpoint, {"POD_NAME", "pod-7"}, {"NODE_NAME", "node-3"}};
  const Read found = ReadAll(cluster);
  EXPECT_EQ(found.Text("k8s.pod.name"), "pod-7");
  EXPECT_EQ(found.Text("k8s.node.name"), "node-3");
  Environment said = cluster;
  said.emplace_back("K8S_NODE_NAME", "node-4");
  said.emplace_back("OTEL_RESOURCE_ATTRIBUTES",
                    "k8s.pod.name=mine, service.name=a%2Cb,team=%C3%A4rger,service.instance.id=1");
  const Read read = ReadAll(said);
  EXPECT_EQ(read.Text("k8s.pod.name"), "mine");
  EXPECT_EQ(read.Text("k8s.node.name"), "node-4");
  EXPECT_EQ(read.Text("service.name"), "a,b");
  EXPECT_EQ(read.Text("service.instance.id"), "1");
  EXPECT_EQ(read.Text("team"), "\xc3\xa4rger");
  said.emplace_back("OTEL_SERVICE_NAME", "chat");
  EXPECT_EQ(ReadAll(said).Text("service.name"), "chat");
}

TEST(OtlpConfigTest, MistakesNameTheirVariable) {
  const std::vector<std::pair<std::string, std::string>> mistakes = {
      {"OTEL_SDK_DISABLED", "yes"},
      {"OTEL_TRACES_EXPORTER", "zipkin"},
      {"OTEL_TRACES_SAMPLER", "jaeger_remote"},
      {"OTEL_TRACES_SAMPLER_ARG", "1.5"},
      {"OTEL_TRACES_SAMPLER_ARG", "nan"},
      {"OTEL_EXPORTER_OTLP_ENDPOINT", "collector"},
      {"OTEL_EXPORTER_OTLP_ENDPOINT", "http://"},
      {"OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1"},
      {"OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:0"},
      {"OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317/v1/traces"},
      {"OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://collector:4317"},
      {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://user@collector:4317"},
      {"OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"},
      {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"},
      {"OTEL_EXPORTER_OTLP_INSECURE", "1"},
      {"OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"},
      {"OTEL_EXPORTER_OTLP_TIMEOUT", "10s"},
      {"OTEL_EXPORTER_OTLP_TIMEOUT", "0"},
      {"OTEL_BSP_SCHEDULE_DELAY", "-1"},
      {"OTEL_BSP_EXPORT_TIMEOUT", "x"},
      {"OTEL_BSP_MAX_QUEUE_SIZE", "0"},
      {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096"},
      {"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/crt"},
      {"OTEL_RESOURCE_ATTRIBUTES", "a"},
      {"OTEL_RESOURCE_ATTRIBUTES", "a=%f"},
      {"OTEL_RESOURCE_ATTRIBUTES", "a=%ff"},
      {"OTEL_SPAN_LINK_COUNT_LIMIT", "-1"},
      {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "many"},
  };
  for (const auto& [variable, value] : mistakes) {
    Environment environment = {{variable, value}};
    if (variable != kEndpoint.first) environment.push_back(kEndpoint);
    EXPECT_THAT(Mistake(environment), HasSubstr(variable + ": expected")) << value;
  }
  EXPECT_THAT(Mistake({kEndpoint, {"OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca"}}),
              HasSubstr("expected https://"));
}

}  // namespace
}  // namespace yoio
