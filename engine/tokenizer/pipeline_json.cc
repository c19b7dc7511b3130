#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/tokenizer/tokenizer_json.h"

namespace yoio {
namespace {

// The pattern of a ByteLevel step with "use_regex", which its file does not spell out.
constexpr std::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Steps are run by recursion; real files have at most five.
constexpr size_t kMaxSteps = 16;

absl::StatusOr<bool> OptionalBool(const JsonCursor& cursor, bool absent) {
  if (cursor.IsMissing()) return absent;
  return cursor.Bool();
}

absl::StatusOr<SplitStep> ParseByteLevel(const JsonCursor& section) {
  SplitStep step;
  YOIO_ASSIGN_OR_RETURN(step.add_space, section["add_prefix_space"].Bool());
  YOIO_ASSIGN_OR_RETURN(const bool use_regex, OptionalBool(section["use_regex"], true));
  if (use_regex) {
    YOIO_ASSIGN_OR_RETURN(step.pattern, Regex::Compile(kByteLevelPattern));
  }
  return step;
}

absl::StatusOr<SplitStep> ParseDigits(const JsonCursor& section) {
  SplitStep step;
  YOIO_ASSIGN_OR_RETURN(const bool individual, section["individual_digits"].Bool());
  YOIO_ASSIGN_OR_RETURN(step.pattern, Regex::Compile(individual ? R"(\p{N})" : R"(\p{N}+)"));
  return step;
}

absl::StatusOr<Regex> ParsePattern(const JsonCursor& section) {
  const bool literal = !section["String"].IsMissing();
  const JsonCursor text = section[literal ? "String" : "Regex"];
  YOIO_ASSIGN_OR_RETURN(const std::string pattern, text.String());
  absl::StatusOr<Regex> regex = literal ? Regex::CompileLiteral(pattern) : Regex::Compile(pattern);
  if (!regex.ok()) return text.MustBe(absl::StrCat("a supported pattern (", regex.status().message(), ")"));
  return regex;
}

absl::StatusOr<SplitStep> ParseSplit(const JsonCursor& section) {
  SplitStep step;
  YOIO_ASSIGN_OR_RETURN(step.pattern, ParsePattern(section["pattern"]));
  YOIO_ASSIGN_OR_RETURN(const std::string behavior, section["behavior"].String());
  YOIO_ASSIGN_OR_RETURN(const bool invert, OptionalBool(section["invert"], false));
  if (behavior == "Isolated") {
    step.behavior = SplitStep::Behavior::kIsolate;
  } else if (behavior == "Removed") {
    step.behavior = invert ? SplitStep::Behavior::kDropGaps : SplitStep::Behavior::kDropMatches;
  } else {
    return section["behavior"].MustBe("'Isolated' or 'Removed'");
  }
  return step;
}

// Appends the steps of `section`, Sequences flattened. `closed` becomes true with the ByteLevel step, after
// which no other can come: it would see the byte-level alphabet instead of text.
absl::Status AppendSteps(const JsonCursor& section, std::vector<SplitStep>& steps, bool& closed) {
  YOIO_ASSIGN_OR_RETURN(const std::string type, section["type"].String());
  if (type == "Sequence") {
    const JsonCursor members = section["pretokenizers"];
    YOIO_RETURN_IF_ERROR(members.IsArray());
    for (size_t i = 0; i < members.size(); ++i) YOIO_RETURN_IF_ERROR(AppendSteps(members[i], steps, closed));
    return absl::OkStatus();
  }
  if (closed) return section["type"].MustBe("absent, because ByteLevel comes last");
  if (steps.size() == kMaxSteps) return section["type"].MustBe("absent, because it is the 17th step");
  absl::StatusOr<SplitStep> step;
  if (type == "ByteLevel") {
    step = ParseByteLevel(section);
    closed = true;
  } else if (type == "Digits") {
    step = ParseDigits(section);
  } else if (type == "Split") {
    step = ParseSplit(section);
  } else {
    return section["type"].MustBe("'ByteLevel', 'Digits', 'Split' or 'Sequence'");
  }
  YOIO_RETURN_IF_ERROR(step.status());
  steps.push_back(*std::move(step));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<SplitStep>> ParsePreTokenizer(const JsonCursor& section) {
  std::vector<SplitStep> steps;
  bool closed = false;
  YOIO_RETURN_IF_ERROR(section.IsObject());
  YOIO_RETURN_IF_ERROR(AppendSteps(section, steps, closed));
  if (!closed) return section["type"].MustBe("'ByteLevel', or a 'Sequence' that ends in one");
  return steps;
}

absl::Status CheckDecoder(const JsonCursor& section) {
  YOIO_RETURN_IF_ERROR(section.IsObject());
  YOIO_ASSIGN_OR_RETURN(const std::string type, section["type"].String());
  if (type == "ByteLevel") return absl::OkStatus();
  const JsonCursor members = section["decoders"];
  if (type == "Sequence" && members.size() == 1) return CheckDecoder(members[0]);
  return section["type"].MustBe("'ByteLevel', or a 'Sequence' of that alone");
}

absl::Status CheckPostProcessor(const JsonCursor& section) {
  if (section.IsMissingOrNull()) return absl::OkStatus();
  YOIO_ASSIGN_OR_RETURN(const std::string type, section["type"].String());
  if (type == "ByteLevel" || type == "TemplateProcessing") return absl::OkStatus();
  if (type != "Sequence") return section["type"].MustBe("'ByteLevel', 'TemplateProcessing' or 'Sequence'");
  const JsonCursor members = section["processors"];
  YOIO_RETURN_IF_ERROR(members.IsArray());
  for (size_t i = 0; i < members.size(); ++i) YOIO_RETURN_IF_ERROR(CheckPostProcessor(members[i]));
  return absl::OkStatus();
}

}  // namespace yoio
