#include "engine/tokenizer/tokenizer.h"

#include <utility>

#include "base/status.h"
#include "engine/files/mapped_file.h"
#include "engine/tokenizer/bpe_tokenizer.h"
#include "engine/tokenizer/tokenizer_json.h"

namespace yoio {
namespace {

constexpr size_t kMaxFileBytes = size_t{64} << 20;

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromFile(const std::string& path) {
  YOIO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path, kMaxFileBytes));
  YOIO_ASSIGN_OR_RETURN(BpeTokenizerParts parts, ParseTokenizerJson(file.text(), path));
  return std::make_unique<BpeTokenizer>(std::move(parts));
}

}  // namespace yoio
