// Regular expressions for the pre-tokenizer: PCRE2, compiled once, matched from any thread, within limits.
#ifndef YOIO_ENGINE_TOKENIZER_REGEX_H_
#define YOIO_ENGINE_TOKENIZER_REGEX_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"

// PCRE2's own names for its opaque types, so that its header (which needs a macro) stays in regex.cc.
struct pcre2_real_code_8;
struct pcre2_real_match_context_8;
struct pcre2_real_match_data_8;
struct pcre2_real_jit_stack_8;

namespace yoio {

// What one thread needs to match; reused from match to match. Not thread-safe. Owned by one call of Encode.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(const RegexScratch&) = delete;
  RegexScratch& operator=(const RegexScratch&) = delete;

 private:
  friend class Regex;
  pcre2_real_match_data_8* match_data_;
  pcre2_real_match_context_8* context_;
  pcre2_real_jit_stack_8* jit_stack_;
};

// One compiled pattern. Immutable, hence thread-safe.
class Regex {
 public:
  struct Match {
    size_t begin, end;  // bytes; never empty
  };

  // `pattern` is in the syntax of regex_syntax.h. INVALID_ARGUMENT when it is malformed, uses something that
  // cannot be translated, or can match the empty string; the message says where, not in which pattern.
  static absl::StatusOr<Regex> Compile(std::string_view pattern);
  // Matches exactly `text`, which is not empty.
  static absl::StatusOr<Regex> CompileLiteral(std::string_view text);

  // The first match that begins at or after byte `from`, which is at a character; nullopt without one. `text`
  // is valid UTF-8. RESOURCE_EXHAUSTED when the search met its limits.
  absl::StatusOr<std::optional<Match>> Find(std::string_view text, size_t from, RegexScratch& scratch) const;

 private:
  struct FreeCode {
    void operator()(pcre2_real_code_8* code) const;
  };
  using Code = std::unique_ptr<pcre2_real_code_8, FreeCode>;

  explicit Regex(Code code) : code_(std::move(code)) {}
  static absl::StatusOr<Regex> CompileWith(std::string_view pattern, unsigned options);

  Code code_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_TOKENIZER_REGEX_H_
