#include "server/flags.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace yoio {
namespace {

// What gRPC can be told, which counts in int.
constexpr int64_t kMaxRequestBytes = std::numeric_limits<int>::max();
FlagValue NamesValue(std::vector<std::string>& names) {
  auto set = [&names](const std::string& text) {
    std::vector<std::string> parsed = absl::StrSplit(text, ',');
    for (const std::string& name : parsed) {
      if (name.empty() || name.size() > 128) {
        return absl::InvalidArgumentError("expected NAME or NAME,ALIAS,... of 1 to 128 characters each");
      }
    }
    names = std::move(parsed);
    return absl::OkStatus();
  };
  return {set, [&names] { return absl::StrJoin(names, ","); }};
}

FlagValue AddressValue(Address& target) {
  auto set = [&target](const std::string& text) {
    absl::StatusOr<Address> parsed = ParseAddress(text);
    if (parsed.ok()) target = *std::move(parsed);
    return parsed.status();
  };
  return {set, [&target] { return target.ToString(); }};
}

// `none`, when given, is what no address is called: "off".
FlagValue OptionalAddressValue(std::optional<Address>& target, const std::string& none = "") {
  auto set = [&target, none](const std::string& text) {
    if (!none.empty() && text == none) {
      target.reset();
      return absl::OkStatus();
    }
    absl::StatusOr<Address> parsed = ParseAddress(text);
    if (parsed.ok()) target = *std::move(parsed);
    return parsed.status();
  };
  return {set, [&target, none] { return target ? target->ToString() : none; }};
}

// 0 is none; negative: not chosen.
FlagValue SwapBytesValue(int64_t& target) {
  FlagValue value = BytesValue([&target](int64_t bytes) { target = bytes; }, [&target] { return target; }, 0,
                               std::numeric_limits<int64_t>::max());
  return {value.set, [&target] { return target < 0 ? "from free memory" : FormatBytes(target); }};
}

}  // namespace

std::string Flag::Option() const { return absl::StrCat("--", name); }

std::string Flag::Variable() const {
  return absl::StrCat("YOIO_", absl::AsciiStrToUpper(absl::StrReplaceAll(name, {{"-", "_"}})));
}

std::vector<Flag> MakeFlags(ServerOptions& o) {
  EngineOptions& e = o.engine;
  using std::chrono::milliseconds;
  using std::chrono::seconds;
  std::vector<Flag> flags = {
      {"model", "DIR", "Required: directory with config.json, *.safetensors, tokenizer.json.",
       TextValue(e.model_dir), Nodes::kAll, "Model"},
      {"served-model-name", "NAMES", "Name in requests, then aliases, by commas; else DIR's own name.",
       NamesValue(o.served_model_names), Nodes::kLeader},
      {"load-format", "WHAT", "auto: the checkpoint's weights. dummy: drawn from a seed.",
       ChoiceValue<LoadFormat>(e.load_format, {{"auto", LoadFormat::kAuto}, {"dummy", LoadFormat::kDummy}}),
       Nodes::kLeader},
      {"config-override", "FILE", "JSON file whose keys replace those of config.json.",
       TextValue(e.config_override)},
      {"max-model-len", "TOKENS", "Most tokens of prompt and output together.",
       IntValue(e.max_model_len, 0, 1 << 30, "the model's own"), Nodes::kLeader},

      {"device", "WHAT", "cpu, cuda, or auto: a GPU if it can be used, else the CPU.",
       ChoiceValue<Device>(e.device,
                           {{"auto", Device::kAuto}, {"cpu", Device::kCpu}, {"cuda", Device::kCuda}}),
       Nodes::kAll, "Hardware"},
      {"tensor-parallel-size", "N", "Ranks, each with its part of weights and cache.",
       IntValue(e.tensor_parallel_size, 1, 64)},
      {"threads", "N", "Compute threads of all ranks together.",
       IntValue(e.threads, 0, 4096, "as many as may be used")},
      {"text-threads", "N", "Threads that tokenize and detokenize.", IntValue(e.text_threads, 1, 256),
       Nodes::kLeader},
      {"kv-cache-bytes", "BYTES", "Memory of the cache, per rank.",
       BytesValue([&e](int64_t bytes) { e.kv_cache_bytes = bytes; }, [&e] { return e.kv_cache_bytes; },
                  1 << 20, std::numeric_limits<int64_t>::max(), "from free memory"),
       Nodes::kLeader},
      {"pipeline-depth", "N", "Steps in flight.", IntValue(e.pipeline_depth, 0, 4, "1 on CPU, 2 on CUDA"),
       Nodes::kLeader},

      {"nnodes", "N", "Processes that share the ranks evenly.", IntValue(e.nnodes, 1, 64), Nodes::kAll,
       "Nodes"},
      {"node-rank", "N", "Which of them this is. 0 is the leader, who takes the calls.",
       IntValue(e.node_rank, 0, 63)},
      {"followers-listen", "HOST:PORT", "Leader: where followers come in, or off.",
       OptionalAddressValue(o.followers_listen, "off"), Nodes::kLeader},
      {"leader-address", "HOST:PORT", "Followers: the leader's --followers-listen, as reached from here.",
       OptionalAddressValue(o.leader_address)},
      {"follower-token-file", "FILE", "Secret that all nodes share: one line of 16 characters or more.",
       TextValue(o.follower_token_file)},
      {"communicator", "WHAT", "local: in one process. socket: CPUs. nccl: GPUs. auto: what fits.",
       ChoiceValue<Communication>(e.communication, {{"auto", Communication::kAuto},
                                                    {"local", Communication::kLocal},
                                                    {"socket", Communication::kSocket},
                                                    {"nccl", Communication::kNccl}}),
       Nodes::kLeader},
      {"index-sharding", "WHAT", "Who scores the cache: rank0 for all rows, or each rank for some rows.",
       ChoiceValue<IndexSharding>(e.index_sharding,
                                  {{"rank0", IndexSharding::kRank0}, {"rows", IndexSharding::kRows}}),
       Nodes::kLeader},
      {"load-timeout", "DURATION", "How long nodes may take to come and load.",
       DurationValue(e.load_timeout, seconds(1))},
      {"step-timeout", "DURATION", "When a step that has not ended counts as failed.",
       DurationValue(e.step_timeout, milliseconds(100), "60s on CPU, 30s on CUDA"), Nodes::kLeader},

      {"listen", "HOST:PORT", "Where calls are taken. Port 0: any, printed at start.", AddressValue(o.listen),
       Nodes::kLeader, "Network"},
      {"health-listen", "HOST:PORT", "Where health is told (grpc.health.v1), or off.",
       OptionalAddressValue(o.health_listen, "off")},
      {"metrics-listen", "HOST:PORT", "Where Prometheus scrapes /metrics over HTTP, or off.",
       OptionalAddressValue(o.metrics_listen, "off"), Nodes::kLeader},
      {"allow-plaintext", "", "Speak with other machines although nothing is encrypted.",
       SwitchValue(o.allow_plaintext)},
      {"max-connection-age", "DURATION", "When clients are told to connect anew; their calls go on.",
       DurationValue(o.max_connection_age, seconds(1)), Nodes::kLeader},
      {"reflection", "on|off", "Tell clients the schema, so that grpcurl needs no .proto.",
       SwitchValue(o.reflection), Nodes::kLeader},
      {"max-request-bytes", "BYTES", "Most bytes of one request message.",
       BytesValue([&e](int64_t bytes) { e.max_request_bytes = static_cast<size_t>(bytes); },
                  [&e] { return static_cast<int64_t>(e.max_request_bytes); }, 1 << 10, kMaxRequestBytes),
       Nodes::kLeader},

      {"tls-cert", "FILE", "Certificate of --listen and --admin-listen, PEM; read again on change.",
       TextValue(o.tls.certificate), Nodes::kLeader, "Security"},
      {"tls-key", "FILE", "Its key, PEM.", TextValue(o.tls.key), Nodes::kLeader},
      {"tls-client-ca", "FILE", "Clients need a certificate of this authority, PEM.", TextValue(o.tls.ca),
       Nodes::kLeader},
      {"api-keys", "FILE", "Callers need a key of this list (JSON); read again on change.",
       TextValue(o.api_keys), Nodes::kLeader},
      {"trust-tenant-header", "", "Metadata x-yoio-tenant names the tenant: a gateway is in front.",
       SwitchValue(o.trust_tenant_header), Nodes::kLeader},
      {"admin-listen", "HOST:PORT", "Where operators call AdminService, or off.",
       OptionalAddressValue(o.admin_listen, "off"), Nodes::kLeader},
      {"admin-token-file", "FILE", "Secret that they need: one line of 16 characters or more.",
       TextValue(o.admin_token_file), Nodes::kLeader},
      {"followers-tls-cert", "FILE", "This node's certificate for the other nodes, PEM.",
       TextValue(o.followers_tls.certificate)},
      {"followers-tls-key", "FILE", "Its key, PEM.", TextValue(o.followers_tls.key)},
      {"followers-tls-ca", "FILE", "The authority of all nodes' certificates, PEM.",
       TextValue(o.followers_tls.ca)},

      {"max-sequences", "N", "Choices that run at the same time; further ones wait.",
       IntValue(e.max_sequences, 1, 65536), Nodes::kLeader, "Scheduling"},
      {"max-step-tokens", "N", "Most tokens of one step.",
       IntValue(e.max_step_tokens, 0, 1 << 20, "512 on CPU, 8192 on CUDA"), Nodes::kLeader},
      {"max-output-rows", "N", "Most tokens of one step whose logits are computed.",
       IntValue(e.max_output_rows, 1, 1 << 20), Nodes::kLeader},
      {"default-max-tokens", "N", "max_tokens of a request that leaves it out, if there is room.",
       IntValue(e.default_max_tokens, 1, 1 << 30), Nodes::kLeader},
      {"max-token-gap", "DURATION", "How long prompts may make steps of others last.",
       DurationValue(e.max_token_gap, milliseconds(1), "2 to 2.5 steps"), Nodes::kLeader},
      {"prefix-cache", "on|off", "Keep what prompts computed for others that begin alike.",
       SwitchValue(e.prefix_cache), Nodes::kLeader},
      {"swap-bytes", "BYTES", "Host memory for sequences that give way, per rank.",
       SwapBytesValue(e.swap_bytes), Nodes::kLeader},
      {"max-queued-requests", "N", "Requests that may wait; further ones are refused.",
       IntValue(e.max_queued_requests, 1, 1 << 20), Nodes::kLeader},
      {"max-queued-tokens", "N", "Prompt tokens that may wait with them.",
       Int64Value(e.max_queued_tokens, 1, int64_t{1} << 40), Nodes::kLeader},
      {"tenant-max-requests", "N", "Live requests of one tenant; 0: no limit of its own.",
       IntValue(e.tenant_limits.max_requests, 0, 1 << 20), Nodes::kLeader},
      {"tenant-max-queued-tokens", "N", "Prompt tokens of one tenant that may wait; 0: no limit.",
       Int64Value(e.tenant_limits.max_queued_tokens, 0, int64_t{1} << 40), Nodes::kLeader},
      {"tenant-max-cache-share", "RATIO", "Most of the cache that one tenant's requests may hold.",
       RatioValue(e.tenant_limits.max_cache_share), Nodes::kLeader},
      {"max-request-time", "DURATION", "When a request ends that has no deadline.",
       DurationValue(e.max_request_time, seconds(1)), Nodes::kLeader},
      {"stall-timeout", "DURATION", "When a stream ends whose reader takes nothing.",
       DurationValue(e.stall_timeout, seconds(1)), Nodes::kLeader},
      {"drain-delay", "DURATION", "How long a drain still takes calls after readiness has fallen.",
       DurationValue(o.drain_delay, seconds(0)), Nodes::kLeader},
      {"drain-timeout", "DURATION", "How long a drain waits for live requests.",
       DurationValue(o.drain_timeout, seconds(0)), Nodes::kLeader},

      {"dry-run", "", "Print the memory plan and exit.", SwitchValue(o.dry_run), Nodes::kAll, "Other"},
  };
  return flags;
}

}  // namespace yoio
