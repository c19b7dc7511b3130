#include "server/options.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "server/flag_values.h"
#include "server/version.h"

namespace yoio {
namespace {

constexpr char kUsage[] =
    "yoio-server serves one language model over gRPC.\n"
    "\n"
    "Usage: yoio-server --model DIR [--flag value ...]\n";
constexpr char kFooter[] =
    "\n"
    "Every flag has a twin in the environment: --max-model-len is YOIO_MAX_MODEL_LEN. The flag wins.\n"
    "Durations: 500ms, 60s, 10m, 1h30m. Sizes: bytes, or with KiB, MiB, GiB. Switches: on, off.\n"
    "Signals: SIGTERM and SIGINT drain (finish what runs, take nothing new); a second one ends at once.\n"
    "Exit codes: 0 drained, 1 wrong configuration, 2 the engine failed, 3 ended by a second signal.\n";
// What gRPC can be told, which counts in int.
constexpr int64_t kMaxRequestBytes = std::numeric_limits<int>::max();
constexpr char kSeeHelp[] = "Run yoio-server --help for every setting.";

// One setting. `group` is set where a new heading begins.
struct Flag {
  std::string name;         // "max-sequences"
  std::string placeholder;  // "N"; empty for a switch, which needs no value
  std::string help;         // one line; with the value that is shown behind it at most 78 characters
  FlagValue value;
  std::string group = {};
  std::string origin = "default";

  std::string Option() const { return absl::StrCat("--", name); }
  std::string Variable() const {
    return absl::StrCat("YOIO_", absl::AsciiStrToUpper(absl::StrReplaceAll(name, {{"-", "_"}})));
  }
};

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

FlagValue OptionalAddressValue(std::optional<Address>& target) {
  auto set = [&target](const std::string& text) {
    if (text == "off") {
      target.reset();
      return absl::OkStatus();
    }
    absl::StatusOr<Address> parsed = ParseAddress(text);
    if (parsed.ok()) target = *std::move(parsed);
    return parsed.status();
  };
  return {set, [&target] { return target ? target->ToString() : "off"; }};
}

// The table of settings, bound to `o`, in the order of --help.
std::vector<Flag> MakeFlags(ServerOptions& o) {
  EngineOptions& e = o.engine;
  using std::chrono::seconds;
  std::vector<Flag> flags = {
      {"model", "DIR", "Required: directory with config.json, *.safetensors, tokenizer.json.",
       TextValue(e.model_dir), "Model"},
      {"served-model-name", "NAMES", "Name in requests, then aliases, by commas; else DIR's own name.",
       NamesValue(o.served_model_names)},
      {"load-format", "WHAT", "auto: the checkpoint's weights. dummy: drawn from a seed.",
       ChoiceValue<LoadFormat>(e.load_format, {{"auto", LoadFormat::kAuto}, {"dummy", LoadFormat::kDummy}})},
      {"config-override", "FILE", "JSON file whose keys replace those of config.json.",
       TextValue(e.config_override)},
      {"max-model-len", "TOKENS", "Most tokens of prompt and output together.",
       IntValue(e.max_model_len, 0, 1 << 30, "the model's own")},

      {"device", "WHAT", "cpu, cuda, or auto: a GPU if it can be used, else the CPU.",
       ChoiceValue<Device>(e.device,
                           {{"auto", Device::kAuto}, {"cpu", Device::kCpu}, {"cuda", Device::kCuda}}),
       "Hardware"},
      {"tensor-parallel-size", "N", "Ranks, each with its part of weights and cache.",
       IntValue(e.tensor_parallel_size, 1, 64)},
      {"threads", "N", "Compute threads of all ranks together.",
       IntValue(e.threads, 0, 4096, "as many as may be used")},
      {"text-threads", "N", "Threads that tokenize and detokenize.", IntValue(e.text_threads, 1, 256)},
      {"kv-cache-bytes", "BYTES", "Memory of the cache, per rank.",
       BytesValue([&e](int64_t bytes) { e.kv_cache_bytes = bytes; }, [&e] { return e.kv_cache_bytes; },
                  1 << 20, std::numeric_limits<int64_t>::max(), "from free memory")},
      {"pipeline-depth", "N", "Steps in flight.", IntValue(e.pipeline_depth, 0, 4, "1 on CPU, 2 on CUDA")},

      {"listen", "HOST:PORT", "Where calls are taken. Port 0: any, printed at start.", AddressValue(o.listen),
       "Network"},
      {"health-listen", "HOST:PORT", "Where health is told (grpc.health.v1), or off.",
       OptionalAddressValue(o.health_listen)},
      {"allow-plaintext", "", "Let other machines reach --listen although nothing is encrypted.",
       SwitchValue(o.allow_plaintext)},
      {"reflection", "on|off", "Tell clients the schema, so that grpcurl needs no .proto.",
       SwitchValue(o.reflection)},
      {"max-request-bytes", "BYTES", "Most bytes of one request message.",
       BytesValue([&e](int64_t bytes) { e.max_request_bytes = static_cast<size_t>(bytes); },
                  [&e] { return static_cast<int64_t>(e.max_request_bytes); }, 1 << 10, kMaxRequestBytes)},

      {"max-sequences", "N", "Choices that run at the same time; further ones wait.",
       IntValue(e.max_sequences, 1, 65536), "Scheduling"},
      {"max-step-tokens", "N", "Most tokens of one step.",
       IntValue(e.max_step_tokens, 0, 1 << 20, "512 on CPU, 8192 on CUDA")},
      {"max-output-rows", "N", "Most tokens of one step whose logits are computed.",
       IntValue(e.max_output_rows, 1, 1 << 20)},
      {"default-max-tokens", "N", "max_tokens of a request that leaves it out, if there is room.",
       IntValue(e.default_max_tokens, 1, 1 << 30)},
      {"max-request-time", "DURATION", "When a request ends that has no deadline.",
       DurationValue(e.max_request_time, seconds(1))},
      {"stall-timeout", "DURATION", "When a stream ends whose reader takes nothing.",
       DurationValue(e.stall_timeout, seconds(1))},
      {"drain-timeout", "DURATION", "How long a drain waits for live requests.",
       DurationValue(o.drain_timeout, seconds(0))},

      {"dry-run", "", "Print the memory plan and exit.", SwitchValue(o.dry_run), "Other"},
  };
  return flags;
}

std::string HelpText(const std::vector<Flag>& flags) {
  std::string text = kUsage;
  for (const Flag& flag : flags) {
    if (!flag.group.empty()) absl::StrAppend(&text, "\n", flag.group, "\n");
    const std::string head =
        absl::StrCat(flag.Option(), flag.placeholder.empty() ? "" : " ", flag.placeholder);
    absl::StrAppendFormat(&text, "  %-29s %s", head, flag.help);
    const std::string value = flag.value.show();
    if (!value.empty()) absl::StrAppend(&text, " [", value, "]");
    text.push_back('\n');
  }
  absl::StrAppendFormat(&text, "  %-29s %s\n", "--help", "Print this and exit.");
  absl::StrAppendFormat(&text, "  %-29s %s\n", "--version", "Print the version and exit.");
  return text + kFooter;
}

// Least number of single-character changes that turn `a` into `b`.
int EditDistance(const std::string& a, const std::string& b) {
  std::vector<int> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

// The flag whose name is nearest to `name`, both as "max-sequences".
const Flag& Nearest(const std::vector<Flag>& flags, const std::string& name) {
  return *std::min_element(flags.begin(), flags.end(), [&name](const Flag& a, const Flag& b) {
    return EditDistance(a.name, name) < EditDistance(b.name, name);
  });
}

Flag* Find(std::vector<Flag>& flags, const std::string& name) {
  const auto found = std::find_if(flags.begin(), flags.end(), [&](const Flag& f) { return f.name == name; });
  return found == flags.end() ? nullptr : &*found;
}

EarlyExit Wrong(const std::string& what, const std::string& what_to_do) {
  return {.code = 1, .text = absl::StrCat("yoio-server: ", what, "\n", what_to_do, "\n")};
}

// Whether Kubernetes may have made this variable for a Service whose name begins with "yoio".
bool IsServiceLink(const std::string& variable) {
  std::vector<std::string> words = absl::StrSplit(variable, '_');
  for (size_t i = 1; i < words.size(); ++i) {
    const bool last = i + 1 == words.size();
    if (words[i] == "HOST" && last && words[i - 1] == "SERVICE") return true;
    if (words[i] != "PORT") continue;
    if (last || words[i - 1] == "SERVICE") return true;  // YOIO_PORT, YOIO_SERVICE_PORT_GRPC
    int number = 0;                                      // YOIO_PORT_50051_TCP_ADDR
    if (absl::SimpleAtoi(words[i + 1], &number) && i + 2 < words.size()) return true;
  }
  return false;
}

// Sets what the arguments say. Nothing is returned when all is well.
std::optional<EarlyExit> ReadArguments(const std::vector<std::string>& args, std::vector<Flag>& flags) {
  for (size_t i = 0; i < args.size(); ++i) {
    if (args[i] == "--help" || args[i] == "-h") return EarlyExit{0, HelpText(flags)};
    if (args[i] == "--version") return EarlyExit{0, absl::StrCat("yoio-server ", kVersion, "\n")};
    if (!absl::StartsWith(args[i], "--")) {
      return Wrong(absl::StrCat("unexpected argument: ", args[i]),
                   "Every setting is a flag: --model DIR. " + std::string(kSeeHelp));
    }
    const size_t equals = args[i].find('=');
    const std::string name = args[i].substr(2, equals == std::string::npos ? equals : equals - 2);
    Flag* flag = Find(flags, name);
    if (flag == nullptr) {
      return Wrong(absl::StrCat("unknown flag: --", name),
                   absl::StrCat("Did you mean ", Nearest(flags, name).Option(), "? ", kSeeHelp));
    }
    if (flag->origin == "flag") return Wrong(absl::StrCat("--", name, ": given twice"), "Give it once.");
    std::string value = "on";
    if (equals != std::string::npos) {
      value = args[i].substr(equals + 1);
    } else if (!flag->placeholder.empty()) {
      if (++i == args.size()) {
        return Wrong(absl::StrCat("--", name, ": no value"),
                     absl::StrCat("Write ", flag->Option(), " ", flag->placeholder, "."));
      }
      value = args[i];
    }
    const absl::Status status = flag->value.set(value);
    if (!status.ok()) {
      return Wrong(absl::StrCat("--", name, ": ", status.message(), "; got \"", value, "\""), kSeeHelp);
    }
    flag->origin = "flag";
  }
  return std::nullopt;
}

// Sets what the environment says of flags that the arguments left alone.
std::optional<EarlyExit> ReadEnvironment(const Environment& environment, std::vector<Flag>& flags) {
  for (const auto& [variable, value] : environment) {
    if (!absl::StartsWith(variable, "YOIO_")) continue;
    const std::string name =
        absl::AsciiStrToLower(absl::StrReplaceAll(variable.substr(sizeof("YOIO_") - 1), {{"_", "-"}}));
    Flag* flag = Find(flags, name);
    if (flag == nullptr) {
      if (IsServiceLink(variable)) continue;
      return Wrong(absl::StrCat("unknown environment variable: ", variable),
                   absl::StrCat("Did you mean ", Nearest(flags, name).Variable(), "? Unset it otherwise."));
    }
    if (flag->origin == "flag") continue;
    const absl::Status status = flag->value.set(value);
    if (!status.ok()) {
      return Wrong(absl::StrCat(variable, ": ", status.message(), "; got \"", value, "\""),
                   absl::StrCat("It stands for ", flag->Option(), ". ", kSeeHelp));
    }
    flag->origin = "environment";
  }
  return std::nullopt;
}

// Fills what depends on other settings, and checks them together.
std::optional<EarlyExit> Complete(ServerOptions& options) {
  if (options.engine.model_dir.empty()) {
    return Wrong("no model", "Give one: yoio-server --model DIR. " + std::string(kSeeHelp));
  }
  if (options.served_model_names.empty()) {
    const std::filesystem::path path = std::filesystem::path(options.engine.model_dir) / "";
    const std::string name = path.lexically_normal().parent_path().filename().string();
    options.served_model_names = {name.empty() || name == "." || name == ".." ? "model" : name};
  }
  if (!options.listen.IsLoopback() && !options.allow_plaintext) {
    return Wrong(absl::StrCat("--listen ", options.listen.ToString(),
                              ": other machines could reach it, and nothing is encrypted"),
                 "Listen on 127.0.0.1, or add --allow-plaintext if the network is trusted.");
  }
  return std::nullopt;
}

}  // namespace

std::variant<ParsedOptions, EarlyExit> ParseOptions(const std::vector<std::string>& args,
                                                    const Environment& environment) {
  ParsedOptions parsed;
  std::vector<Flag> flags = MakeFlags(parsed.options);
  if (auto exit = ReadArguments(args, flags)) return *std::move(exit);
  if (auto exit = ReadEnvironment(environment, flags)) return *std::move(exit);
  if (auto exit = Complete(parsed.options)) return *std::move(exit);
  for (const Flag& flag : flags) {
    const std::string value = flag.value.show();
    parsed.settings.push_back({flag.Option(), value.empty() ? "unset" : value, flag.origin});
  }
  return parsed;
}

Environment ProcessEnvironment() {
  Environment environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::vector<std::string> parts = absl::StrSplit(*entry, absl::MaxSplits('=', 1));
    if (parts.size() == 2) environment.emplace_back(parts[0], parts[1]);
  }
  return environment;
}

}  // namespace yoio
