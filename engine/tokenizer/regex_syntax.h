// tokenizer.json writes its patterns for the Oniguruma library; this project runs them on PCRE2.
#ifndef YOIO_ENGINE_TOKENIZER_REGEX_SYNTAX_H_
#define YOIO_ENGINE_TOKENIZER_REGEX_SYNTAX_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace yoio {

// Rewrites an Oniguruma pattern (its Ruby syntax, UTF-8) as a PCRE2 pattern for PCRE2_UTF | PCRE2_MULTILINE
// that matches the same texts. INVALID_ARGUMENT names the first construct for which that is not known to
// hold: what is let through is a list of constructs, not everything both libraries happen to accept.
absl::StatusOr<std::string> TranslateOnigurumaPattern(std::string_view pattern);

}  // namespace yoio

#endif  // YOIO_ENGINE_TOKENIZER_REGEX_SYNTAX_H_
