#include "engine/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"
#include "engine/tokenizer/regex_syntax.h"

namespace yoio {
namespace {

// Backtracking steps of one match. A run of white space as long as the largest request (16 MiB) needs one
// step a character; a pattern that needs much more than that is exponential.
constexpr uint32_t kMatchLimit = 64u << 20;
// Nested backtracking points, and KiB of heap for them, where the machine has no just-in-time compiler.
constexpr uint32_t kDepthLimit = 64u << 20;
constexpr uint32_t kHeapLimitKib = 64u << 10;
// Stack of the compiled matcher: grows on demand, in bytes.
constexpr size_t kJitStackStart = 32u << 10;
constexpr size_t kJitStackMax = 1u << 20;

std::string ErrorText(int code) {
  PCRE2_UCHAR buffer[256] = {};
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

RegexScratch::RegexScratch()
    : match_data_(pcre2_match_data_create(1, nullptr)),
      context_(pcre2_match_context_create(nullptr)),
      jit_stack_(pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr)) {
  YOIO_CHECK(match_data_ != nullptr && context_ != nullptr) << "out of memory";
  pcre2_set_match_limit(context_, kMatchLimit);
  pcre2_set_depth_limit(context_, kDepthLimit);
  pcre2_set_heap_limit(context_, kHeapLimitKib);
  pcre2_jit_stack_assign(context_, nullptr, jit_stack_);
}

RegexScratch::~RegexScratch() {
  pcre2_jit_stack_free(jit_stack_);
  pcre2_match_context_free(context_);
  pcre2_match_data_free(match_data_);
}

void Regex::FreeCode::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

absl::StatusOr<Regex> Regex::Compile(std::string_view pattern) {
  YOIO_ASSIGN_OR_RETURN(const std::string translated, TranslateOnigurumaPattern(pattern));
  YOIO_ASSIGN_OR_RETURN(Regex regex, CompileWith(translated, PCRE2_UTF | PCRE2_MULTILINE));
  uint32_t matches_empty = 0;
  pcre2_pattern_info(regex.code_.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
  if (matches_empty != 0) {
    return absl::InvalidArgumentError("one that can match the empty string is not supported");
  }
  return regex;
}

absl::StatusOr<Regex> Regex::CompileLiteral(std::string_view text) {
  if (text.empty()) return absl::InvalidArgumentError("an empty pattern is not supported");
  return CompileWith(text, PCRE2_UTF | PCRE2_LITERAL);
}

absl::StatusOr<Regex> Regex::CompileWith(std::string_view pattern, unsigned options) {
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  YOIO_CHECK(context != nullptr) << "out of memory";
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), options, &error,
                          &offset, context));
  pcre2_compile_context_free(context);
  if (code == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("near byte ", offset, ": ", ErrorText(error)));
  }
  // Where this fails the interpreter matches instead: the same results, several times slower.
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  return Regex(std::move(code));
}

absl::StatusOr<std::optional<Regex::Match>> Regex::Find(std::string_view text, size_t from,
                                                        RegexScratch& scratch) const {
  const int count = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                                PCRE2_NO_UTF_CHECK, scratch.match_data_, scratch.context_);
  if (count == PCRE2_ERROR_NOMATCH) return std::optional<Match>();
  if (count < 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("pre-tokenizer pattern gave up at byte ", from, " of the text: ", ErrorText(count)));
  }
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(scratch.match_data_);
  YOIO_CHECK_LT(bounds[0], bounds[1]);
  return std::optional<Match>({bounds[0], bounds[1]});
}

}  // namespace yoio
