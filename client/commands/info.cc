// `yoio info`: the model, the server, its limits, and how busy it is.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/commands/command.h"
#include "client/commands/report.h"

namespace yoio {
namespace {

std::string Number(int64_t value) { return Grouped(value); }

std::string Seconds(const google::protobuf::Duration& duration) {
  return absl::StrFormat("%g s", static_cast<double>(duration.seconds()) + 1e-9 * duration.nanos());
}

std::string MebiBytes(int64_t bytes) {
  return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20));
}

std::string OrWord(double value, double off, absl::string_view word) {
  return value == off ? std::string(word) : absl::StrFormat("%g", value);
}

std::vector<Row> ModelRows(const v1::GetModelInfoResponse& model) {
  const v1::SamplingValues& defaults = model.defaults();
  return {
      {"model", absl::StrJoin(model.names(), ", "), ""},
      {"architecture", model.architecture(),
       absl::StrCat(model.num_layers(), " layers, hidden size ", model.hidden_size())},
      {"revision", model.revision(), ""},
      {"longest request", Number(model.max_model_len()), "tokens, prompt and output together"},
      {"vocabulary", Number(model.vocab_size()), model.has_tokenizer() ? "" : "no tokenizer: token ids only"},
      {"sliding window", model.sliding_window() == 0 ? "none" : Number(model.sliding_window()), ""},
      {"index top-k", model.index_top_k() == 0 ? "none" : Number(model.index_top_k()), ""},
      {"default max tokens", Number(model.default_max_tokens()), ""},
      {"default temperature", OrWord(defaults.temperature(), 0, "greedy"), ""},
      {"default top-p", OrWord(defaults.top_p(), 1, "all"), ""},
      {"default top-k", OrWord(defaults.top_k(), 0, "all"), ""},
      {"default min-p", OrWord(defaults.min_p(), 0, "all"), ""},
      {"default repetition penalty", OrWord(defaults.repetition_penalty(), 1, "none"), ""},
  };
}

std::vector<Row> ServerRows(const v1::GetServerInfoResponse& server) {
  const v1::ServerLimits& limits = server.limits();
  return {
      {"server", server.version(), absl::StrCat("schema revision ", server.schema_revision())},
      {"device", server.device(),
       absl::StrCat(server.tensor_parallel_size(), " ranks, ", server.threads(), " threads")},
      {"cache", MebiBytes(server.kv_cache_bytes()),
       absl::StrCat("per rank: ", Number(server.cache_blocks()), " blocks of ", server.cache_block_tokens(),
                    " tokens")},
      {"most request bytes", Number(limits.max_request_bytes()), ""},
      {"most response bytes", Number(limits.max_response_bytes()), "in one message"},
      {"most metadata bytes", Number(limits.max_metadata_bytes()), ""},
      {"most choices", Number(limits.max_n()), ""},
      {"most stop strings", Number(limits.max_stop_strings()),
       absl::StrCat("of at most ", Number(limits.max_stop_string_bytes()), " bytes")},
      {"most stop ids", Number(limits.max_stop_ids()), ""},
      {"most logit biases", Number(limits.max_logit_bias()), ""},
      {"most top logprobs", Number(limits.max_top_logprobs()), ""},
      {"most request id characters", Number(limits.max_request_id_bytes()), ""},
      {"most tokens", Number(limits.max_model_len()), "prompt and output together"},
      {"most running choices", Number(limits.max_sequences()), "further ones wait"},
      {"most tokens in a step", Number(limits.max_step_tokens()), ""},
      {"most calls per connection", Number(limits.max_concurrent_streams()), "at the same time"},
      {"longest call", Seconds(limits.max_request_time()), "without a deadline"},
      {"longest stall of a reader", Seconds(limits.stall_timeout()), ""},
  };
}

std::vector<Row> LoadRows(const v1::GetLoadResponse& load) {
  return {
      {"running", Number(load.running()), "requests"},
      {"waiting", Number(load.waiting()),
       absl::StrCat("requests, ", Number(load.waiting_tokens()), " tokens")},
      {"free blocks", Number(load.free_blocks()), absl::StrCat("of ", Number(load.total_blocks()))},
      {"steps", Number(load.steps()), "since the start"},
      {"tokens generated", Number(load.generated_tokens()), "since the start"},
      {"prompt tokens", Number(load.prompt_tokens()), "since the start"},
  };
}

class InfoCommand : public Command {
 public:
  explicit InfoCommand(CLI::App& app) : Command(app) {
    AddCommonOptions(kDataServer, "YOIOCLI_SERVER");
    AddCredentialOptions();
    AddTimeoutOption();
  }

  int Run() override {
    const std::optional<ChannelOptions> channel = Channel();
    if (!channel) return kUsage;
    Client client(*channel);
    const auto model = client.GetModelInfo({}, Options());
    if (!model.ok()) return ReportFailedCall(model.status(), server_);
    const auto server = client.GetServerInfo(Options());
    if (!server.ok()) return ReportFailedCall(server.status(), server_);
    const auto load = client.GetLoad(Options());
    if (!load.ok()) return ReportFailedCall(load.status(), server_);

    if (json_) {
      PrintJson(*model);
      PrintJson(*server);
      PrintJson(*load);
      return kDone;
    }
    // One table, so that its columns line up throughout.
    std::vector<Row> rows = ModelRows(*model);
    for (std::vector<Row> more : {ServerRows(*server), LoadRows(*load)}) {
      rows.insert(rows.end(), more.begin(), more.end());
    }
    PrintNow(Columns(rows));
    return kDone;
  }
};

}  // namespace

std::unique_ptr<Command> MakeInfoCommand(CLI::App& program) {
  return std::make_unique<InfoCommand>(
      *program.add_subcommand("info", "Show the model, the server, its limits and its load"));
}

}  // namespace yoio
