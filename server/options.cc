#include "server/options.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "server/flags.h"
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
constexpr char kSeeHelp[] = "Run yoio-server --help for every setting.";

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

// All or none of the flags `first` and `second`, which mean nothing alone.
std::optional<EarlyExit> CheckTogether(const std::string& first, bool has_first, const std::string& second,
                                       bool has_second) {
  if (has_first == has_second) return std::nullopt;
  const std::string& given = has_first ? first : second;
  const std::string& missing = has_first ? second : first;
  return Wrong(absl::StrCat(given, ": it means nothing without ", missing),
               absl::StrCat("Give ", missing, " too, or leave ", given, " out."));
}

// No flag of security that could not be enforced.
std::optional<EarlyExit> CheckSecurity(const ServerOptions& options) {
  const TlsFiles& tls = options.tls;
  const TlsFiles& followers = options.followers_tls;
  if (auto exit = CheckTogether("--tls-cert", !tls.certificate.empty(), "--tls-key", !tls.key.empty())) {
    return exit;
  }
  if (!tls.ca.empty() && tls.certificate.empty()) {
    return CheckTogether("--tls-client-ca", true, "--tls-cert", false);
  }
  if (auto exit = CheckTogether("--admin-listen", options.admin_listen.has_value(), "--admin-token-file",
                                !options.admin_token_file.empty())) {
    return exit;
  }
  if (auto exit = CheckTogether("--followers-tls-cert", !followers.certificate.empty(), "--followers-tls-key",
                                !followers.key.empty())) {
    return exit;
  }
  return CheckTogether("--followers-tls-cert", !followers.certificate.empty(), "--followers-tls-ca",
                       !followers.ca.empty());
}

// Where nothing is encrypted only this machine may reach it, or the operator says that he knows. `tls_flag`
// is empty where nothing can be encrypted.
std::optional<EarlyExit> CheckPlaintext(const std::string& flag, const std::optional<Address>& address,
                                        const std::string& tls_flag, const TlsFiles& tls,
                                        const ServerOptions& options) {
  if (!address || address->IsLoopback() || !tls.empty() || options.allow_plaintext) return std::nullopt;
  return Wrong(absl::StrCat(flag, " ", address->ToString(),
                            ": it is not of this machine alone, and nothing is encrypted"),
               absl::StrCat(tls_flag.empty() ? "Take" : absl::StrCat("Give ", tls_flag, ", take"),
                            " an address of 127.0.0.1, or add --allow-plaintext if the network is trusted."));
}

std::optional<EarlyExit> CheckAddresses(const ServerOptions& options) {
  struct Reached {
    std::string flag;
    const std::optional<Address> address;
    std::string tls_flag;
    const TlsFiles tls;
  };
  for (const Reached& reached :
       {Reached{"--listen", options.listen, "--tls-cert", options.tls},
        Reached{"--admin-listen", options.admin_listen, "--tls-cert", options.tls},
        Reached{"--followers-listen", options.followers_listen, "--followers-tls-cert",
                options.followers_tls},
        Reached{"--metrics-listen", options.metrics_listen, "", TlsFiles()},
        Reached{"--leader-address", options.leader_address, "--followers-tls-cert", options.followers_tls}}) {
    if (auto exit = CheckPlaintext(reached.flag, reached.address, reached.tls_flag, reached.tls, options)) {
      return exit;
    }
  }
  return std::nullopt;
}

// What only one kind of node has. `present` says whether the flag was given.
std::optional<EarlyExit> CheckPresence(const std::string& flag, bool present, bool needed,
                                       const std::string& node) {
  if (present == needed) return std::nullopt;
  if (needed) return Wrong(absl::StrCat("no ", flag, ": ", node, " needs one"), kSeeHelp);
  return Wrong(absl::StrCat(flag, ": ", node, " has no use for it"), "Leave it out.");
}

// The nodes of one engine: how many, which one this is, and how they find each other.
std::optional<EarlyExit> CheckNodes(const ServerOptions& options, const std::vector<Flag>& flags) {
  const EngineOptions& engine = options.engine;
  const bool several = engine.nnodes > 1;
  const bool follower = engine.node_rank > 0;
  if (engine.node_rank >= engine.nnodes) {
    return Wrong(
        absl::StrCat("--node-rank ", engine.node_rank, ": expected less than --nnodes ", engine.nnodes),
        "Ranks of nodes count from 0, the leader.");
  }
  if (engine.tensor_parallel_size % engine.nnodes != 0) {
    return Wrong(absl::StrCat("--tensor-parallel-size ", engine.tensor_parallel_size,
                              ": expected a multiple of --nnodes ", engine.nnodes),
                 "It counts the ranks of all nodes together, and every node has as many.");
  }
  const std::string node = !several   ? "a single node"
                           : follower ? "a follower"
                                      : "the leader of several nodes";
  if (auto exit = CheckPresence("--followers-listen", options.followers_listen.has_value(),
                                several && !follower, node)) {
    return exit;
  }
  if (auto exit = CheckPresence("--leader-address", options.leader_address.has_value(), follower, node)) {
    return exit;
  }
  if (auto exit =
          CheckPresence("--follower-token-file", !options.follower_token_file.empty(), several, node)) {
    return exit;
  }
  if (!several && !options.followers_tls.empty()) {
    return CheckPresence("--followers-tls-cert", true, false, node);
  }
  if (several && engine.communication == Communication::kLocal) {
    return Wrong(absl::StrCat("--communicator local: expected socket or nccl with --nnodes ", engine.nnodes),
                 "Local ranks are threads of one process.");
  }
  for (const Flag& flag : flags) {
    if (follower && flag.nodes == Nodes::kLeader && flag.origin != "default") {
      return Wrong(absl::StrCat(flag.origin == "flag" ? flag.Option() : flag.Variable(),
                                ": a follower has no use for it"),
                   "It is the leader's to set. Leave it out here.");
    }
  }
  return std::nullopt;
}

// Fills what depends on other settings, and checks them together.
std::optional<EarlyExit> Complete(ServerOptions& options, const std::vector<Flag>& flags) {
  if (options.engine.model_dir.empty()) {
    return Wrong("no model", "Give one: yoio-server --model DIR. " + std::string(kSeeHelp));
  }
  if (options.served_model_names.empty()) {
    const std::filesystem::path path = std::filesystem::path(options.engine.model_dir) / "";
    const std::string name = path.lexically_normal().parent_path().filename().string();
    options.served_model_names = {name.empty() || name == "." || name == ".." ? "model" : name};
  }
  if (auto exit = CheckNodes(options, flags)) return exit;
  if (auto exit = CheckSecurity(options)) return exit;
  return CheckAddresses(options);
}

}  // namespace

std::variant<ParsedOptions, EarlyExit> ParseOptions(const std::vector<std::string>& args,
                                                    const Environment& environment) {
  ParsedOptions parsed;
  parsed.options.engine.version = kVersion;
  std::vector<Flag> flags = MakeFlags(parsed.options);
  if (auto exit = ReadArguments(args, flags)) return *std::move(exit);
  if (auto exit = ReadEnvironment(environment, flags)) return *std::move(exit);
  if (auto exit = Complete(parsed.options, flags)) return *std::move(exit);
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
