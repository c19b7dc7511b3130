#include "engine/tokenizer/regex_syntax.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace yoio {
namespace {

// Oniguruma's \s is exactly the property White_Space. PCRE2's also matches U+180E, hence the explicit list;
// its complement is needed because a negated list cannot stand inside another list.
constexpr char kSpace[] =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr char kNotSpace[] =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027})"
    R"(\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  absl::StatusOr<std::string> Run() {
    while (!AtEnd()) YOIO_RETURN_IF_ERROR(Item());
    return std::move(output_);
  }

 private:
  bool AtEnd() const { return position_ == pattern_.size(); }
  std::string_view Rest() const { return pattern_.substr(position_); }
  char Peek() const { return AtEnd() ? '\0' : pattern_[position_]; }

  void Copy(size_t count) {
    output_ += pattern_.substr(position_, count);
    position_ += count;
  }

  absl::Status Refuse(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat("at byte ", position_, ": ", what, " is not supported"));
  }

  // One character, escape, list or group opening outside a list.
  absl::Status Item() {
    switch (Peek()) {
      case '\\':
        return Escape(/*in_list=*/false);
      case '[':
        return List();
      case '(':
        return Group();
      case '{':
        return Interval();
      default:
        Copy(1);
        return absl::OkStatus();
    }
  }

  // Groups that mean the same in both. Oniguruma's (?i) ends its alternation, PCRE2's does not: so only where
  // it governs the whole pattern.
  absl::Status Group() {
    if (!Rest().starts_with("(?")) {
      Copy(1);
      return absl::OkStatus();
    }
    for (const std::string_view opening : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:"}) {
      if (!Rest().starts_with(opening)) continue;
      Copy(opening.size());
      return absl::OkStatus();
    }
    if (position_ == 0 && Rest().starts_with("(?i)")) {
      Copy(4);
      return absl::OkStatus();
    }
    return Refuse("this kind of group");
  }

  // {n}, {n,} and {n,m}, which may be lazy. In Oniguruma a plus after them repeats, in PCRE2 it forbids
  // backtracking; {n}? is optional there and lazy here; {,m} is an interval there and text here.
  absl::Status Interval() {
    const size_t close = Rest().find('}');
    if (close == std::string_view::npos) return Refuse("an unescaped '{'");
    const std::string_view bounds = Rest().substr(1, close - 1);
    const size_t digits = bounds.find_first_not_of("0123456789");
    const bool exact = digits == std::string_view::npos;
    if (bounds.empty() || digits == 0 ||
        (!exact && (bounds[digits] != ',' ||
                    bounds.find_first_not_of("0123456789", digits + 1) != std::string_view::npos))) {
      return Refuse("a '{' that opens no interval");
    }
    Copy(close + 1);
    if (Peek() == '+') return Refuse("'+' after an interval");
    if (Peek() == '?' && exact) return Refuse("'?' after an exact interval");
    return absl::OkStatus();
  }

  absl::Status List() {
    Copy(1);
    if (Peek() == '^') Copy(1);
    if (Peek() == ']') return Refuse("']' as the first member of a list");
    const size_t first = position_;
    bool after_dash = false;  // one that may make a range
    while (!AtEnd() && Peek() != ']') {
      if (Peek() == '[') return Refuse("a list inside a list");
      if (Rest().starts_with("&&")) return Refuse("an intersection of lists");
      if (Peek() != '\\') {
        after_dash = Peek() == '-' && position_ > first;
        Copy(1);
        continue;
      }
      const bool is_set =
          Rest().size() > 1 && std::string_view("pPsSdD").find(Rest()[1]) != std::string_view::npos;
      if (is_set && after_dash) return Refuse("a range that ends in a set");
      YOIO_RETURN_IF_ERROR(Escape(/*in_list=*/true));
      after_dash = false;
      // After a set a dash is itself, in both; said explicitly, because a set may have become ranges.
      if (is_set && Peek() == '-') {
        output_.push_back('\\');
        Copy(1);
      }
    }
    if (AtEnd()) return Refuse("a list without its end");
    Copy(1);
    return absl::OkStatus();
  }

  absl::Status Escape(bool in_list) {
    if (Rest().size() < 2) return Refuse("a backslash at the end");
    const char kind = Rest()[1];
    switch (kind) {
      case 'n':
      case 'r':
      case 't':
      case 'f':
        Copy(2);
        return absl::OkStatus();
      case 's':
        return Replace(2, in_list ? kSpace : absl::StrCat("[", kSpace, "]"));
      case 'S':
        return Replace(2, in_list ? kNotSpace : absl::StrCat("[^", kSpace, "]"));
      case 'd':
        return Replace(2, "\\p{Nd}");
      case 'D':
        return Replace(2, "\\P{Nd}");
      case 'p':
      case 'P':
        return Property();
      case 'u':
        return CodePoint(2, 4);
      case 'x':
        return CodePointInBraces();
      default:
        if (absl::ascii_isalnum(kind)) return Refuse(absl::StrCat("\\", std::string(1, kind)));
        Copy(2);
        return absl::OkStatus();
    }
  }

  absl::Status Replace(size_t count, std::string_view replacement) {
    output_ += replacement;
    position_ += count;
    return absl::OkStatus();
  }

  // \p{...}: general categories and scripts have the same names in both; PCRE2 refuses names that it lacks.
  absl::Status Property() {
    const size_t close = Rest().find('}');
    if (Rest().size() < 3 || Rest()[2] != '{' || close == std::string_view::npos) {
      return Refuse("a property without braces");
    }
    Copy(close + 1);
    return absl::OkStatus();
  }

  absl::Status CodePoint(size_t begin, size_t digits) {
    const std::string_view hex = Rest().substr(begin, digits);
    if (hex.size() < digits || hex.find_first_not_of("0123456789abcdefABCDEF") != std::string_view::npos) {
      return Refuse("an incomplete code point");
    }
    return Replace(begin + digits, absl::StrCat("\\x{", std::string(hex), "}"));
  }

  // \x{...}; without braces \x names a byte, not a character, beyond 7F.
  absl::Status CodePointInBraces() {
    const size_t close = Rest().find('}');
    if (Rest().size() < 3 || Rest()[2] != '{' || close == std::string_view::npos || close == 3) {
      return Refuse("\\x without braces");
    }
    YOIO_RETURN_IF_ERROR(CodePoint(3, close - 3));
    ++position_;
    return absl::OkStatus();
  }

  const std::string_view pattern_;
  size_t position_ = 0;
  std::string output_;
};

}  // namespace

absl::StatusOr<std::string> TranslateOnigurumaPattern(std::string_view pattern) {
  return Translator(pattern).Run();
}

}  // namespace yoio
