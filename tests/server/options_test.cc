// Flags, their twins in the environment, and what is said when they are wrong.
#include "server/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "server/flag_values.h"

namespace yoio {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

ParsedOptions Parse(const std::vector<std::string>& args, const Environment& environment = {}) {
  auto parsed = ParseOptions(args, environment);
  if (const auto* exit = std::get_if<EarlyExit>(&parsed)) {
    ADD_FAILURE() << exit->text;
    return {};
  }
  return std::get<ParsedOptions>(std::move(parsed));
}

// The two lines that are printed for a mistake.
std::string Mistake(const std::vector<std::string>& args, const Environment& environment = {}) {
  const auto parsed = ParseOptions(args, environment);
  const auto* exit = std::get_if<EarlyExit>(&parsed);
  if (exit == nullptr) {
    ADD_FAILURE() << "no mistake was found";
    return "";
  }
  EXPECT_EQ(exit->code, 1);
  EXPECT_EQ(std::count(exit->text.begin(), exit->text.end(), '\n'), 2) << exit->text;
  return exit->text;
}

Setting SettingOf(const ParsedOptions& parsed, const std::string& flag) {
  for (const Setting& setting : parsed.settings) {
    if (setting.flag == flag) return setting;
  }
  ADD_FAILURE() << "no setting " << flag;
  return {};
}

TEST(OptionsTest, Defaults) {
  const ParsedOptions parsed = Parse({"--model", "/models/tiny"});
  EXPECT_EQ(parsed.options.engine.model_dir, "/models/tiny");
  EXPECT_THAT(parsed.options.served_model_names, ElementsAre("tiny"));
  EXPECT_EQ(parsed.options.listen.ToString(), "127.0.0.1:50051");
  EXPECT_EQ(parsed.options.health_listen->ToString(), "127.0.0.1:50052");
  EXPECT_TRUE(parsed.options.reflection);
  EXPECT_EQ(parsed.options.engine.max_request_bytes, 16u << 20);
  EXPECT_EQ(parsed.options.engine.stall_timeout, std::chrono::seconds(60));
  EXPECT_EQ(parsed.options.engine.max_request_time, std::chrono::hours(1));
}

TEST(OptionsTest, EveryFlagIsRead) {
  const ParsedOptions parsed = Parse({"--model=/m/x/",
                                      "--served-model-name=a,b",
                                      "--device",
                                      "cpu",
                                      "--load-format",
                                      "dummy",
                                      "--config-override",
                                      "/c.json",
                                      "--tensor-parallel-size=4",
                                      "--listen",
                                      "[::1]:0",
                                      "--health-listen=off",
                                      "--metrics-listen=127.0.0.1:9465",
                                      "--reflection=off",
                                      "--threads=3",
                                      "--text-threads=5",
                                      "--kv-cache-bytes=64MiB",
                                      "--max-model-len=1000",
                                      "--max-sequences=7",
                                      "--max-step-tokens=300",
                                      "--max-output-rows=100",
                                      "--default-max-tokens=50",
                                      "--max-request-bytes=1MiB",
                                      "--max-request-time=10m",
                                      "--stall-timeout=1m30s",
                                      "--drain-timeout=0s",
                                      "--pipeline-depth=2",
                                      "--nnodes=2",
                                      "--node-rank=0",
                                      "--followers-listen=127.0.0.1:50054",
                                      "--follower-token-file=/token",
                                      "--communicator=socket",
                                      "--index-sharding=rows",
                                      "--load-timeout=90s",
                                      "--step-timeout=3s",
                                      "--allow-plaintext",
                                      "--max-connection-age=5m",
                                      "--tls-cert=/t.crt",
                                      "--tls-key=/t.key",
                                      "--tls-client-ca=/ca.crt",
                                      "--api-keys=/keys.json",
                                      "--trust-tenant-header",
                                      "--admin-listen=127.0.0.1:50053",
                                      "--admin-token-file=/admin",
                                      "--followers-tls-cert=/f.crt",
                                      "--followers-tls-key=/f.key",
                                      "--followers-tls-ca=/fca.crt",
                                      "--drain-delay=15s",
                                      "--max-token-gap=50ms",
                                      "--prefix-cache=off",
                                      "--swap-bytes=2GiB",
                                      "--max-queued-requests=11",
                                      "--max-queued-tokens=12000",
                                      "--tenant-max-requests=6",
                                      "--tenant-max-queued-tokens=7000",
                                      "--tenant-max-cache-share=0.5",
                                      "--trace-tenant-rate=3",
                                      "--profile-steps=100",
                                      "--profile-file=/t/profile.json.gz",
                                      "--flight-dump=/t/flight.json",
                                      "--termination-log=/t/termination-log",
                                      "--trace-slow=20s",
                                      "--trace-steps=0.5",
                                      "--dry-run"});
  const ServerOptions& options = parsed.options;
  EXPECT_EQ(options.profile_steps, 100);
  EXPECT_EQ(options.profile_file, "/t/profile.json.gz");
  EXPECT_EQ(options.flight_dump, "/t/flight.json");
  EXPECT_EQ(options.termination_log, "/t/termination-log");
  EXPECT_THAT(options.served_model_names, ElementsAre("a", "b"));
  EXPECT_EQ(options.engine.device, Device::kCpu);
  EXPECT_EQ(options.engine.load_format, LoadFormat::kDummy);
  EXPECT_EQ(options.engine.config_override, "/c.json");
  EXPECT_EQ(options.engine.tensor_parallel_size, 4);
  EXPECT_EQ(options.listen.ToString(), "[::1]:0");
  EXPECT_FALSE(options.health_listen.has_value());
  EXPECT_FALSE(options.reflection);
  EXPECT_EQ(options.engine.threads, 3);
  EXPECT_EQ(options.engine.text_threads, 5);
  EXPECT_EQ(options.engine.kv_cache_bytes, 64 << 20);
  EXPECT_EQ(options.engine.max_model_len, 1000);
  EXPECT_EQ(options.engine.max_sequences, 7);
  EXPECT_EQ(options.engine.max_step_tokens, 300);
  EXPECT_EQ(options.engine.max_output_rows, 100);
  EXPECT_EQ(options.engine.default_max_tokens, 50);
  EXPECT_EQ(options.engine.max_request_bytes, 1u << 20);
  EXPECT_EQ(options.engine.max_request_time, std::chrono::minutes(10));
  EXPECT_EQ(options.engine.stall_timeout, std::chrono::seconds(90));
  EXPECT_EQ(options.drain_timeout, Duration::zero());
  EXPECT_EQ(options.engine.pipeline_depth, 2);
  EXPECT_TRUE(options.allow_plaintext);
  EXPECT_TRUE(options.dry_run);
  EXPECT_EQ(options.engine.nnodes, 2);
  EXPECT_EQ(options.engine.node_rank, 0);
  EXPECT_EQ(options.followers_listen->ToString(), "127.0.0.1:50054");
  EXPECT_EQ(options.metrics_listen->ToString(), "127.0.0.1:9465");
  EXPECT_EQ(options.follower_token_file, "/token");
  EXPECT_EQ(options.engine.communication, Communication::kSocket);
  EXPECT_EQ(options.engine.index_sharding, IndexSharding::kRows);
  EXPECT_EQ(options.engine.load_timeout, std::chrono::seconds(90));
  EXPECT_EQ(options.engine.step_timeout, std::chrono::seconds(3));
  EXPECT_EQ(options.max_connection_age, std::chrono::minutes(5));
  EXPECT_EQ(options.tls.certificate, "/t.crt");
  EXPECT_EQ(options.tls.key, "/t.key");
  EXPECT_EQ(options.tls.ca, "/ca.crt");
  EXPECT_EQ(options.api_keys, "/keys.json");
  EXPECT_TRUE(options.trust_tenant_header);
  EXPECT_EQ(options.admin_listen->ToString(), "127.0.0.1:50053");
  EXPECT_EQ(options.admin_token_file, "/admin");
  EXPECT_EQ(options.followers_tls.certificate, "/f.crt");
  EXPECT_EQ(options.followers_tls.key, "/f.key");
  EXPECT_EQ(options.followers_tls.ca, "/fca.crt");
  EXPECT_EQ(options.drain_delay, std::chrono::seconds(15));
  EXPECT_EQ(options.engine.max_token_gap, std::chrono::milliseconds(50));
  EXPECT_FALSE(options.engine.prefix_cache);
  EXPECT_EQ(options.engine.swap_bytes, 2LL << 30);
  EXPECT_EQ(options.engine.max_queued_requests, 11);
  EXPECT_EQ(options.engine.max_queued_tokens, 12000);
  EXPECT_EQ(options.engine.tenant_limits.max_requests, 6);
  EXPECT_EQ(options.engine.tenant_limits.max_queued_tokens, 7000);
  EXPECT_EQ(options.engine.tenant_limits.max_cache_share, 0.5);
  EXPECT_EQ(options.trace.tenant_rate, 3);
  EXPECT_EQ(options.trace_slow, std::chrono::seconds(20));
  EXPECT_EQ(options.trace_steps, 0.5);
  for (const Setting& setting : parsed.settings) {
    if (setting.flag == "--leader-address") continue;  // a follower's
    EXPECT_EQ(setting.origin, "flag") << setting.flag;
  }
}

TEST(OptionsTest, EnvironmentTwinsAndOrigins) {
  const ParsedOptions parsed = Parse({"--max-sequences", "9"}, {{"YOIO_MODEL", "/m"},
                                                                {"YOIO_MAX_SEQUENCES", "5"},
                                                                {"YOIO_ALLOW_PLAINTEXT", "true"},
                                                                {"PATH", "/bin"}});
  EXPECT_EQ(parsed.options.engine.max_sequences, 9);
  EXPECT_TRUE(parsed.options.allow_plaintext);
  EXPECT_EQ(SettingOf(parsed, "--max-sequences").origin, "flag");
  EXPECT_EQ(SettingOf(parsed, "--max-sequences").value, "9");
  EXPECT_EQ(SettingOf(parsed, "--model").origin, "environment");
  EXPECT_EQ(SettingOf(parsed, "--listen").origin, "default");
}

TEST(OptionsTest, UnknownNamesAreMistakesThatNameTheNearest) {
  EXPECT_THAT(Mistake({"--max-sequence", "1"}), HasSubstr("Did you mean --max-sequences?"));
  EXPECT_THAT(Mistake({"--model", "/m"}, {{"YOIO_MAX_SEQUENCE", "1"}}),
              HasSubstr("Did you mean YOIO_MAX_SEQUENCES?"));
  EXPECT_THAT(Mistake({"model"}), HasSubstr("unexpected argument: model"));
}

TEST(OptionsTest, ServiceLinksAreIgnored) {
  Parse({"--model", "/m"}, {{"YOIO_PORT", "tcp://10.0.0.1:50051"},
                            {"YOIO_SERVICE_HOST", "10.0.0.1"},
                            {"YOIO_SERVICE_PORT", "50051"},
                            {"YOIO_SERVICE_PORT_GRPC", "50051"},
                            {"YOIO_PORT_50051_TCP", "tcp://10.0.0.1:50051"},
                            {"YOIO_PORT_50051_TCP_PROTO", "tcp"},
                            {"YOIO_PORT_50051_TCP_ADDR", "10.0.0.1"},
                            {"YOIO_PORT_50051_TCP_PORT", "50051"},
                            {"YOIO_TINY_SERVICE_HOST", "10.0.0.1"},
                            {"YOIO_TINY_PORT_1_UDP", "udp://10.0.0.1:1"}});
}

TEST(OptionsTest, WrongValuesSayWhatWasExpected) {
  EXPECT_THAT(Mistake({"--max-sequences", "0"}), HasSubstr("expected a whole number from 1 to"));
  EXPECT_THAT(Mistake({"--max-sequences", "many"}), HasSubstr("--max-sequences: "));
  EXPECT_THAT(Mistake({"--max-sequences", "99999999999999999999"}), HasSubstr("--max-sequences: "));
  EXPECT_THAT(Mistake({"--device", "tpu"}), HasSubstr("expected auto or cpu or cuda; got \"tpu\""));
  EXPECT_THAT(Mistake({"--kv-cache-bytes", "12QB"}), HasSubstr("expected bytes"));
  EXPECT_THAT(Mistake({"--max-request-bytes", "4GiB"}), HasSubstr("expected 1KiB to "));
  EXPECT_THAT(Mistake({"--stall-timeout", "60"}), HasSubstr("expected a duration with its unit"));
  EXPECT_THAT(Mistake({"--listen", "50051"}), HasSubstr("expected HOST:PORT"));
  EXPECT_THAT(Mistake({"--listen", "127.0.0.1:70000"}), HasSubstr("from 0 to 65535"));
  EXPECT_THAT(Mistake({"--listen", "off"}), HasSubstr("expected HOST:PORT"));
  EXPECT_THAT(Mistake({"--reflection", "maybe"}), HasSubstr("expected on or off"));
  EXPECT_THAT(Mistake({"--model"}), HasSubstr("no value"));
  EXPECT_THAT(Mistake({"--model", "a", "--model", "b"}), HasSubstr("given twice"));
  EXPECT_THAT(Mistake({}, {{"YOIO_MAX_SEQUENCES", "x"}}), HasSubstr("YOIO_MAX_SEQUENCES: "));
  EXPECT_THAT(Mistake({}), HasSubstr("--model DIR"));
}

TEST(OptionsTest, PlaintextForOtherMachinesNeedsASayso) {
  EXPECT_THAT(Mistake({"--model", "/m", "--listen", "0.0.0.0:50051"}), HasSubstr("--allow-plaintext"));
  Parse({"--model", "/m", "--listen", "0.0.0.0:50051", "--allow-plaintext"});
  Parse({"--model", "/m", "--listen", "localhost:50051", "--health-listen", "0.0.0.0:50052"});
}

TEST(OptionsTest, NoPlaintextNeedsASaysoWhereThereIsTls) {
  Parse({"--model=/m", "--listen=0.0.0.0:50051", "--tls-cert=/c", "--tls-key=/k"});
  const std::vector<std::string> admin = {"--model=/m", "--admin-listen=0.0.0.0:50053",
                                          "--admin-token-file=/t"};
  EXPECT_THAT(Mistake(admin), HasSubstr("--admin-listen 0.0.0.0:50053: "));
  auto with_tls = admin;
  with_tls.insert(with_tls.end(), {"--tls-cert=/c", "--tls-key=/k"});
  Parse(with_tls);
}

TEST(OptionsTest, WhatCannotBeEnforcedIsAMistake) {
  EXPECT_THAT(Mistake({"--model=/m", "--tls-key=/k"}), HasSubstr("--tls-key: it means nothing"));
  EXPECT_THAT(Mistake({"--model=/m", "--tls-cert=/c"}), HasSubstr("--tls-cert: it means nothing"));
  EXPECT_THAT(Mistake({"--model=/m", "--tls-client-ca=/ca"}), HasSubstr("--tls-client-ca: it means nothing"));
  EXPECT_THAT(Mistake({"--model=/m", "--admin-listen=127.0.0.1:0"}), HasSubstr("without --admin-token-file"));
  EXPECT_THAT(Mistake({"--model=/m", "--admin-token-file=/t"}), HasSubstr("without --admin-listen"));
  EXPECT_THAT(
      Mistake({"--model=/m", "--followers-tls-cert=/c", "--followers-tls-key=/k", "--followers-tls-ca=/ca"}),
      HasSubstr("--followers-tls-cert: a single node has no use for it"));
}

const std::vector<std::string> kLeader = {"--model=/m", "--nnodes=2", "--tensor-parallel-size=4",
                                          "--followers-listen=127.0.0.1:0", "--follower-token-file=/token"};
const std::vector<std::string> kFollower = {"--model=/m",
                                            "--nnodes=2",
                                            "--node-rank=1",
                                            "--tensor-parallel-size=4",
                                            "--leader-address=localhost:50054",
                                            "--follower-token-file=/token"};

std::vector<std::string> With(std::vector<std::string> args, const std::string& arg) {
  args.push_back(arg);
  return args;
}

std::vector<std::string> Without(std::vector<std::string> args, const std::string& flag) {
  std::erase_if(args, [&](const std::string& arg) { return arg.rfind(flag + "=", 0) == 0; });
  return args;
}

TEST(OptionsTest, NodesOfOneEngine) {
  Parse(kLeader);
  const ParsedOptions follower = Parse(kFollower);
  EXPECT_EQ(follower.options.engine.node_rank, 1);
  EXPECT_EQ(follower.options.leader_address->ToString(), "localhost:50054");
  EXPECT_FALSE(follower.options.engine.version.empty());
  Parse(With(kFollower, "--health-listen=0.0.0.0:1"));
  Parse(With(kLeader, "--communicator=socket"));
}

TEST(OptionsTest, NodesThatDoNotFitTogether) {
  EXPECT_THAT(Mistake(With(kLeader, "--node-rank=2")),
              HasSubstr("--node-rank 2: expected less than --nnodes 2"));
  EXPECT_THAT(Mistake({"--model=/m", "--node-rank=1"}), HasSubstr("--node-rank 1: expected less than"));
  EXPECT_THAT(Mistake(With(Without(kLeader, "--tensor-parallel-size"), "--tensor-parallel-size=3")),
              HasSubstr("--tensor-parallel-size 3: expected a multiple of --nnodes 2"));
  EXPECT_THAT(Mistake(With(kLeader, "--communicator=local")), HasSubstr("expected socket or nccl"));
}

TEST(OptionsTest, AFollowerTracesNothing) {
  const ParsedOptions follower = Parse(kFollower, {{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"}});
  EXPECT_FALSE(follower.options.trace.enabled);
  EXPECT_EQ(follower.settings.size(), Parse(kFollower).settings.size());
}

TEST(OptionsTest, EachNodeTakesWhatItHasAUseFor) {
  for (const char* flag : {"--followers-listen", "--follower-token-file"}) {
    EXPECT_THAT(Mistake(Without(kLeader, flag)), HasSubstr(std::string("no ") + flag)) << flag;
  }
  for (const char* flag : {"--leader-address", "--follower-token-file"}) {
    EXPECT_THAT(Mistake(Without(kFollower, flag)), HasSubstr(std::string("no ") + flag)) << flag;
  }
  EXPECT_THAT(Mistake(With(kLeader, "--leader-address=localhost:1")),
              HasSubstr("--leader-address: the leader"));
  for (const char* flag : {"--followers-listen=localhost:1", "--listen=localhost:1", "--step-timeout=3s",
                           "--kv-cache-bytes=1GiB", "--load-format=dummy", "--drain-timeout=1s"}) {
    EXPECT_THAT(Mistake(With(kFollower, flag)), HasSubstr("a follower has no use for it")) << flag;
  }
  EXPECT_THAT(Mistake(kFollower, {{"YOIO_MAX_SEQUENCES", "5"}}), HasSubstr("YOIO_MAX_SEQUENCES: a follower"));
  for (const char* flag :
       {"--followers-listen=localhost:1", "--leader-address=localhost:1", "--follower-token-file=/token"}) {
    EXPECT_THAT(Mistake({"--model=/m", flag}), HasSubstr("a single node has no use for it")) << flag;
  }
}

TEST(OptionsTest, MetricsForOtherMachinesNeedASayso) {
  const std::vector<std::string> open = {"--model=/m", "--metrics-listen=0.0.0.0:9464"};
  EXPECT_THAT(Mistake(open), AllOf(HasSubstr("--metrics-listen 0.0.0.0:9464: "),
                                   HasSubstr("\nTake an address of 127.0.0.1, or add --allow-plaintext")));
  Parse(With(open, "--allow-plaintext"));
  EXPECT_FALSE(Parse({"--model=/m", "--metrics-listen=off"}).options.metrics_listen);
  EXPECT_THAT(Mistake(With(kFollower, "--metrics-listen=127.0.0.1:0")), HasSubstr("has no use for it"));
}

TEST(OptionsTest, NodesOnOtherMachinesNeedASayso) {
  const auto leader = With(Without(kLeader, "--followers-listen"), "--followers-listen=0.0.0.0:50054");
  EXPECT_THAT(Mistake(leader), HasSubstr("--followers-listen 0.0.0.0:50054: "));
  Parse(With(leader, "--allow-plaintext"));
  const auto follower = With(Without(kFollower, "--leader-address"), "--leader-address=yoio-0:50054");
  EXPECT_THAT(Mistake(follower), HasSubstr("--leader-address yoio-0:50054: "));
  Parse(With(follower, "--allow-plaintext"));
  for (auto node : {leader, follower}) {
    node.insert(node.end(), {"--followers-tls-cert=/c", "--followers-tls-key=/k", "--followers-tls-ca=/ca"});
    Parse(node);
    for (const char* flag : {"--followers-tls-cert", "--followers-tls-key", "--followers-tls-ca"}) {
      EXPECT_THAT(Mistake(Without(node, flag)), HasSubstr(std::string("nothing without ") + flag));
    }
  }
}

TEST(OptionsTest, OpenTelemetrysVariablesAreSettingsOnceTracingIsOn) {
  const ParsedOptions off = Parse({"--model", "/m"}, {{"OTEL_SERVICE_NAME", "chat"}});
  EXPECT_FALSE(off.options.trace.enabled);
  const ParsedOptions on = Parse({"--model", "/m", "--trace-tenant-rate", "2"},
                                 {{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"}});
  EXPECT_TRUE(on.options.trace.enabled);
  EXPECT_EQ(on.options.trace.tenant_rate, 2);
  EXPECT_EQ(SettingOf(on, "OTEL_EXPORTER_OTLP_ENDPOINT").value, "http://collector:4317");
  EXPECT_EQ(SettingOf(on, "OTEL_EXPORTER_OTLP_ENDPOINT").origin, "environment");
  EXPECT_EQ(on.settings.size(), off.settings.size() + 21);
}

TEST(OptionsTest, AWrongVariableOfOpenTelemetryIsAMistake) {
  EXPECT_THAT(Mistake({"--model", "/m"}, {{"OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"}}),
              HasSubstr("OTEL_EXPORTER_OTLP_PROTOCOL: expected grpc"));
}

TEST(OptionsTest, HelpNamesEveryFlagOnceAndFitsATerminal) {
  const auto parsed = ParseOptions({"--help"}, {});
  const auto* exit = std::get_if<EarlyExit>(&parsed);
  ASSERT_NE(exit, nullptr);
  EXPECT_EQ(exit->code, 0);
  for (const Setting& setting : Parse({"--model", "/m"}).settings) {
    EXPECT_THAT(exit->text, HasSubstr("\n  " + setting.flag + " ")) << setting.flag;
  }
  std::string line;
  for (const char c : exit->text) {
    if (c != '\n') {
      line += c;
      continue;
    }
    EXPECT_LE(line.size(), 110u) << line;
    line.clear();
  }
}

TEST(OptionsTest, Version) {
  const auto parsed = ParseOptions({"--version"}, {});
  const auto* exit = std::get_if<EarlyExit>(&parsed);
  ASSERT_NE(exit, nullptr);
  EXPECT_EQ(exit->code, 0);
  EXPECT_THAT(exit->text, HasSubstr("yoio-server "));
}

TEST(FlagValuesTest, Bytes) {
  EXPECT_EQ(*ParseBytes("0"), 0);
  EXPECT_EQ(*ParseBytes("1048576"), 1 << 20);
  EXPECT_EQ(*ParseBytes("3GiB"), 3LL << 30);
  EXPECT_EQ(FormatBytes(1536 << 10), "1536KiB");
  for (const char* bad : {"", "GiB", "-1", "1.5GiB", "1 GiB", "99999999999999TiB", "9223372036854775808"}) {
    EXPECT_FALSE(ParseBytes(bad).ok()) << bad;
  }
}

TEST(FlagValuesTest, Durations) {
  EXPECT_EQ(*ParseDuration("500ms"), std::chrono::milliseconds(500));
  EXPECT_EQ(*ParseDuration("1h30m"), std::chrono::minutes(90));
  EXPECT_EQ(FormatDuration(std::chrono::seconds(90)), "1m30s");
  for (const char* bad : {"", "60", "-1s", "inf", "9999999h", "s"})
    EXPECT_FALSE(ParseDuration(bad).ok()) << bad;
}

}  // namespace
}  // namespace yoio
