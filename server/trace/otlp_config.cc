#include "server/trace/otlp_config.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "server/flag_values.h"
#include "server/place.h"
#include "server/trace/otlp_values.h"
#include "server/version.h"

namespace yoio {
namespace {

using Variables = std::map<std::string, std::string>;

enum class Exporter { kUnset, kOtlp, kNone };
enum class SamplerName { kAlwaysOn, kAlwaysOff, kRatio, kParentOn, kParentOff, kParentRatio };
enum class Protocol { kGrpc };

// What the variables say, each by itself.
struct Raw {
  bool disabled = false;
  Exporter exporter = Exporter::kUnset;
  SamplerName sampler = SamplerName::kParentOn;
  double sampler_argument = 1;
  Endpoint endpoint;
  Protocol protocol = Protocol::kGrpc;
  bool insecure = false;
  std::string service_name = "yoio-server";
  KeyValues attributes;
  Duration export_timeout = std::chrono::seconds(30);
};

struct Variable {
  std::string name;   // "OTEL_EXPORTER_OTLP_ENDPOINT"
  std::string first;  // the one for traces alone, which wins; empty: there is none
  FlagValue value;
  std::string origin = "default";
};

Variable Plain(const std::string& name, FlagValue value) { return {name, "", std::move(value)}; }

// OTEL_EXPORTER_OTLP_`name`.
Variable Otlp(const std::string& name, FlagValue value) {
  return {absl::StrCat("OTEL_EXPORTER_OTLP_", name), absl::StrCat("OTEL_EXPORTER_OTLP_TRACES_", name),
          std::move(value)};
}

FlagValue SamplerValue(SamplerName& target) {
  return ChoiceValue<SamplerName>(target, {{"always_on", SamplerName::kAlwaysOn},
                                           {"always_off", SamplerName::kAlwaysOff},
                                           {"traceidratio", SamplerName::kRatio},
                                           {"parentbased_always_on", SamplerName::kParentOn},
                                           {"parentbased_always_off", SamplerName::kParentOff},
                                           {"parentbased_traceidratio", SamplerName::kParentRatio}});
}

// OTLP over HTTP is what most other programs speak by default: who asks for it is told.
FlagValue ProtocolValue(Protocol& target) {
  FlagValue value = ChoiceValue<Protocol>(target, {{"grpc", Protocol::kGrpc}});
  auto set = [choose = value.set](const std::string& text) {
    if (choose(text).ok()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "expected grpc: spans are sent in no other way, and collectors take them on port 4317");
  };
  return {set, value.show};
}

// Those that every process has, bound to `raw` and `options`.
std::vector<Variable> MakeVariables(Raw& raw, TraceOptions& options) {
  OtlpOptions& otlp = options.otlp;
  return {
      Plain("OTEL_SDK_DISABLED", BooleanValue(raw.disabled)),
      Plain("OTEL_TRACES_EXPORTER",
            ChoiceValue<Exporter>(raw.exporter, {{"otlp", Exporter::kOtlp}, {"none", Exporter::kNone}})),
      Plain("OTEL_TRACES_SAMPLER", SamplerValue(raw.sampler)),
      Plain("OTEL_TRACES_SAMPLER_ARG", FractionValue(raw.sampler_argument)),
      Otlp("ENDPOINT", EndpointValue(raw.endpoint)),
      Otlp("PROTOCOL", ProtocolValue(raw.protocol)),
      Otlp("INSECURE", BooleanValue(raw.insecure)),
      Otlp("CERTIFICATE", TextValue(otlp.ca_file)),
      Otlp("CLIENT_CERTIFICATE", TextValue(otlp.certificate_file)),
      Otlp("CLIENT_KEY", TextValue(otlp.key_file)),
      Otlp("HEADERS", HeadersValue(otlp.headers)),
      Otlp("COMPRESSION", ChoiceValue<bool>(otlp.gzip, {{"none", false}, {"gzip", true}})),
      Otlp("TIMEOUT", MillisecondsValue(otlp.timeout, 1)),
      Plain("OTEL_BSP_SCHEDULE_DELAY", MillisecondsValue(otlp.schedule_delay, 0)),
      Plain("OTEL_BSP_EXPORT_TIMEOUT", MillisecondsValue(raw.export_timeout, 1)),
      Plain("OTEL_BSP_MAX_QUEUE_SIZE", SizeValue(otlp.max_queue, 1)),
      Plain("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", SizeValue(otlp.max_batch, 1)),
      Plain("OTEL_SERVICE_NAME", TextValue(raw.service_name)),
      Plain("OTEL_RESOURCE_ATTRIBUTES", AttributesValue(raw.attributes)),
      Plain("OTEL_SPAN_LINK_COUNT_LIMIT", SizeValue(options.limits.links, 0)),
      Plain("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", SizeValue(options.limits.value_bytes, 0)),
  };
}

absl::Status ReadVariables(const Variables& environment, std::vector<Variable>& variables) {
  for (Variable& variable : variables) {
    for (const std::string& name : {variable.first, variable.name}) {
      const auto found = environment.find(name);
      if (found == environment.end() || found->second.empty()) continue;
      const absl::Status status = variable.value.set(found->second);
      // What was given is not repeated: it may hold a secret.
      if (!status.ok()) return absl::InvalidArgumentError(absl::StrCat(name, ": ", status.message()));
      variable.origin = "environment";
      break;
    }
  }
  return absl::OkStatus();
}

bool IsGiven(const std::vector<Variable>& variables, const std::string& name) {
  return std::any_of(variables.begin(), variables.end(),
                     [&](const Variable& v) { return v.name == name && v.origin != "default"; });
}

SamplerOptions MakeSampler(const Raw& raw) {
  const bool parent_based = raw.sampler >= SamplerName::kParentOn;
  switch (raw.sampler) {
    case SamplerName::kAlwaysOn:
    case SamplerName::kParentOn:
      return {parent_based, 1};
    case SamplerName::kAlwaysOff:
    case SamplerName::kParentOff:
      return {parent_based, 0};
    case SamplerName::kRatio:
    case SamplerName::kParentRatio:
      break;
  }
  return {parent_based, raw.sampler_argument};
}

absl::Status CheckTogether(const OtlpOptions& otlp) {
  if (otlp.max_batch > otlp.max_queue) {
    return absl::InvalidArgumentError(
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE: expected at most OTEL_BSP_MAX_QUEUE_SIZE");
  }
  if (otlp.certificate_file.empty() != otlp.key_file.empty()) {
    return absl::InvalidArgumentError(
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: expected with OTEL_EXPORTER_OTLP_CLIENT_KEY, both or none");
  }
  if (!otlp.tls && !(otlp.ca_file.empty() && otlp.key_file.empty())) {
    return absl::InvalidArgumentError(
        "OTEL_EXPORTER_OTLP_ENDPOINT: expected https://HOST:PORT, since there are certificates for it");
  }
  return absl::OkStatus();
}

std::string HostName() {
  std::array<char, HOST_NAME_MAX + 1> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

// A random UUID, by RFC 9562.
std::string NewInstanceId() {
  std::array<uint8_t, 16> bytes = IdSource().NewTrace().trace;
  bytes[6] = static_cast<uint8_t>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<uint8_t>((bytes[8] & 0x3f) | 0x80);
  std::string text;
  for (size_t i = 0; i < bytes.size(); ++i) {
    absl::StrAppendFormat(&text, "%s%02x", i >= 4 && i <= 10 && i % 2 == 0 ? "-" : "", bytes[i]);
  }
  return text;
}

// What describes this process. What the operator says of it goes before what is found out.
std::vector<std::pair<std::string, AttributeValue>> MakeResource(const Raw& raw, bool names_service,
                                                                 const Place& place) {
  std::map<std::string, AttributeValue> attributes;
  if (names_service) attributes.emplace("service.name", raw.service_name);
  for (const auto& [key, value] : raw.attributes) attributes.emplace(key, value);
  attributes.emplace("service.name", raw.service_name);
  attributes.emplace("service.version", kVersion);
  attributes.emplace("service.instance.id", NewInstanceId());
  attributes.emplace("process.pid", int64_t{getpid()});
  for (const auto& [key, value] : {std::pair<std::string, std::string>("host.name", HostName()),
                                   {"k8s.pod.name", place.pod},
                                   {"k8s.node.name", place.node}}) {
    if (!value.empty()) attributes.emplace(key, value);
  }
  return {attributes.begin(), attributes.end()};
}

}  // namespace

absl::Status ReadTraceEnvironment(const Environment& environment, TraceOptions& options,
                                  std::vector<Setting>& settings) {
  const Variables given(environment.begin(), environment.end());
  Raw raw;
  std::vector<Variable> variables = MakeVariables(raw, options);
  YOIO_RETURN_IF_ERROR(ReadVariables(given, variables));
  const bool has_endpoint = IsGiven(variables, "OTEL_EXPORTER_OTLP_ENDPOINT");
  if (raw.exporter == Exporter::kUnset && has_endpoint) raw.exporter = Exporter::kOtlp;
  options.enabled = raw.exporter == Exporter::kOtlp && !raw.disabled;
  if (!options.enabled) return absl::OkStatus();
  options.sampler = MakeSampler(raw);
  options.otlp.target = raw.endpoint.target;
  options.otlp.tls = raw.endpoint.tls.value_or(!raw.insecure);
  options.otlp.timeout = std::min(options.otlp.timeout, raw.export_timeout);
  YOIO_RETURN_IF_ERROR(CheckTogether(options.otlp));
  options.resource = MakeResource(raw, IsGiven(variables, "OTEL_SERVICE_NAME"), PlaceOf(environment));
  for (const Variable& variable : variables) {
    const std::string value = variable.value.show();
    settings.push_back({variable.name, value.empty() ? "unset" : value, variable.origin});
  }
  return absl::OkStatus();
}

}  // namespace yoio
