#include <utility>

#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/utf8.h"

namespace yoio {

std::string Detokenizer::Append(int32_t id) {
  if (skip_special_tokens_ && tokenizer_.IsSpecial(id)) return "";
  pending_ += tokenizer_.TokenBytes(id);
  const size_t finished = pending_.size() - UnfinishedUtf8Tail(pending_);
  std::string text = ReplaceMalformedUtf8(std::string_view(pending_).substr(0, finished));
  pending_.erase(0, finished);
  return text;
}

std::string Detokenizer::Flush() { return ReplaceMalformedUtf8(std::exchange(pending_, "")); }

}  // namespace yoio
