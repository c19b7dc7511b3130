#include "engine/tokenizer/tokenizer_json.h"

#include <array>
#include <optional>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "engine/files/strict_json.h"
#include "engine/tokenizer/byte_level.h"
#include "nlohmann/json.hpp"

namespace yoio {
namespace {

using Json = nlohmann::json;

struct Vocabulary {
  std::vector<TokenEntry> entries;  // by id
  // Ids of the tokens as the file spells them. The keys belong to the parsed document.
  std::unordered_map<std::string_view, int32_t> ids;
  int64_t largest_id;

  std::optional<int32_t> Find(std::string_view token) const {
    const auto found = ids.find(token);
    return found == ids.end() ? std::nullopt : std::optional<int32_t>(found->second);
  }

  // Returns false if `id` is another token's.
  bool Add(std::string_view token, int32_t id, std::string bytes) {
    if (id >= static_cast<int64_t>(entries.size())) entries.resize(id + 1);
    if (!entries[id].bytes.empty()) return false;
    entries[id].bytes = std::move(bytes);
    ids.emplace(token, id);
    return true;
  }
};

absl::Status CheckModelKind(const JsonCursor& model) {
  YOIO_RETURN_IF_ERROR(model.IsObject());
  YOIO_ASSIGN_OR_RETURN(const std::string type, model["type"].String());
  if (type != "BPE") return model["type"].MustBe("'BPE'");
  if (const JsonCursor dropout = model["dropout"]; !dropout.IsMissingOrNull()) {
    YOIO_ASSIGN_OR_RETURN(const double rate, dropout.Number());
    if (rate != 0) return dropout.MustBe("null or 0");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (model[key].IsMissingOrNull()) continue;
    YOIO_ASSIGN_OR_RETURN(const std::string affix, model[key].String());
    if (!affix.empty()) return model[key].MustBe("null or empty");
  }
  if (const JsonCursor fallback = model["byte_fallback"]; !fallback.IsMissing()) {
    YOIO_ASSIGN_OR_RETURN(const bool enabled, fallback.Bool());
    if (enabled) return fallback.MustBe("false");
  }
  return absl::OkStatus();
}

absl::Status ReadVocabulary(const JsonCursor& vocab, Vocabulary& vocabulary) {
  YOIO_RETURN_IF_ERROR(vocab.IsObject());
  for (const auto& [token, value] : vocab.value().get_ref<const Json::object_t&>()) {
    const bool fits =
        value.is_number_unsigned() && value.get<uint64_t>() <= static_cast<uint64_t>(vocabulary.largest_id);
    if (!fits) return vocab[token].Integer(0, vocabulary.largest_id).status();
    std::string bytes = BytesFromByteLevel(token).value_or(token);
    if (!vocabulary.Add(token, value.get<int32_t>(), std::move(bytes))) {
      return vocab[token].MustBe("an id that no other token has");
    }
  }
  return absl::OkStatus();
}

// The tokens of the single bytes that valid UTF-8 is made of.
absl::StatusOr<std::array<int32_t, 256>> FindByteIds(const JsonCursor& vocab, const Vocabulary& vocabulary) {
  std::array<int32_t, 256> byte_ids;
  byte_ids.fill(-1);
  for (const auto& [token, id] : vocabulary.ids) {
    const std::optional<std::string> bytes = BytesFromByteLevel(token);
    if (bytes && bytes->size() == 1) byte_ids[static_cast<uint8_t>((*bytes)[0])] = id;
  }
  for (int byte = 0; byte < 256; ++byte) {
    const bool never_in_utf8 = byte == 0xC0 || byte == 0xC1 || byte > 0xF4;
    if (byte_ids[byte] < 0 && !never_in_utf8) {
      return vocab.MustBe(absl::StrFormat("byte-level, with a token for byte 0x%02X", byte), "none");
    }
  }
  return byte_ids;
}

// Both ways in which files write a merge: "left right" and ["left", "right"].
std::optional<std::pair<std::string_view, std::string_view>> SplitMerge(const Json& merge) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return std::pair(std::string_view(merge[0].get_ref<const std::string&>()),
                     std::string_view(merge[1].get_ref<const std::string&>()));
  }
  if (!merge.is_string()) return std::nullopt;
  const std::string_view text = merge.get_ref<const std::string&>();
  const size_t space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
    return std::nullopt;
  }
  return std::pair(text.substr(0, space), text.substr(space + 1));
}

absl::Status ReadMerges(const JsonCursor& merges, const Vocabulary& vocabulary, BytePairEncoder& encoder) {
  YOIO_RETURN_IF_ERROR(merges.IsArray());
  for (size_t i = 0; i < merges.size(); ++i) {
    const auto pair = SplitMerge(merges.value()[i]);
    if (!pair) return merges[i].MustBe("'LEFT RIGHT' or ['LEFT', 'RIGHT']");
    const auto left = vocabulary.Find(pair->first);
    const auto right = vocabulary.Find(pair->second);
    const auto merged = vocabulary.Find(std::string(pair->first).append(pair->second));
    if (!left || !right || !merged) {
      return merges[i].MustBe("two tokens of the vocabulary that make a third");
    }
    if (!encoder.AddMerge(*left, *right, *merged)) return merges[i].MustBe("a pair not listed before");
  }
  return absl::OkStatus();
}

absl::StatusOr<BytePairEncoder> ReadEncoder(const JsonCursor& model, const Vocabulary& vocabulary) {
  YOIO_ASSIGN_OR_RETURN(const auto byte_ids, FindByteIds(model["vocab"], vocabulary));
  BytePairEncoder encoder(byte_ids);
  YOIO_RETURN_IF_ERROR(ReadMerges(model["merges"], vocabulary, encoder));
  bool ignore_merges = false;
  if (const JsonCursor flag = model["ignore_merges"]; !flag.IsMissing()) {
    YOIO_ASSIGN_OR_RETURN(ignore_merges, flag.Bool());
  }
  if (ignore_merges) {
    for (const auto& [token, id] : vocabulary.ids) {
      if (const auto bytes = BytesFromByteLevel(token)) encoder.AddWholeWord(*bytes, id);
    }
  }
  return encoder;
}

// An added token that the model's vocabulary has too keeps the bytes that it has there.
absl::Status ReadAddedToken(const JsonCursor& token, Vocabulary& vocabulary, AddedTokens& raw,
                            AddedTokens& normalized) {
  YOIO_RETURN_IF_ERROR(token.IsObject());
  YOIO_RETURN_IF_ERROR(token["content"].String().status());
  const std::string& content = token["content"].value().get_ref<const std::string&>();
  if (content.empty()) return token["content"].MustBe("longer than that");
  for (const char* key : {"single_word", "lstrip", "rstrip"}) {
    YOIO_ASSIGN_OR_RETURN(const bool enabled, token[key].Bool());
    if (enabled) return token[key].MustBe("false");
  }
  YOIO_ASSIGN_OR_RETURN(const int64_t id, token["id"].Integer(0, vocabulary.largest_id));
  YOIO_ASSIGN_OR_RETURN(const bool is_normalized, token["normalized"].Bool());
  YOIO_ASSIGN_OR_RETURN(const bool special, token["special"].Bool());
  const std::optional<int32_t> known = vocabulary.Find(content);
  if (known && *known != id) return token["id"].MustBe(absl::StrCat(*known, ", its id in the vocabulary"));
  if (!known && !vocabulary.Add(content, id, content)) {
    return token["id"].MustBe("an id that no other token has");
  }
  if (special) vocabulary.entries[id].special = true;
  (is_normalized ? normalized : raw).Add(content, id);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<BpeTokenizerParts> ParseTokenizerJson(std::string_view json, const std::string& origin) {
  YOIO_ASSIGN_OR_RETURN(const Json document, ParseJson(json, origin));
  const JsonCursor root(document, origin);
  YOIO_RETURN_IF_ERROR(root.IsObject());
  const JsonCursor model = root["model"];
  const JsonCursor added_tokens = root["added_tokens"];
  YOIO_RETURN_IF_ERROR(CheckModelKind(model));
  if (const JsonCursor normalizer = root["normalizer"]; !normalizer.IsMissingOrNull()) {
    return normalizer["type"].MustBe("absent, with \"normalizer\": null");
  }
  YOIO_RETURN_IF_ERROR(CheckDecoder(root["decoder"]));
  YOIO_RETURN_IF_ERROR(CheckPostProcessor(root["post_processor"]));
  YOIO_ASSIGN_OR_RETURN(std::vector<SplitStep> steps, ParsePreTokenizer(root["pre_tokenizer"]));

  Vocabulary vocabulary;
  // Ids may have holes, but not so many that a file of a few bytes asks for gigabytes.
  vocabulary.largest_id = 2 * static_cast<int64_t>(model["vocab"].size() + added_tokens.size()) + 1024;
  YOIO_RETURN_IF_ERROR(ReadVocabulary(model["vocab"], vocabulary));
  YOIO_ASSIGN_OR_RETURN(BytePairEncoder encoder, ReadEncoder(model, vocabulary));
  AddedTokens raw, normalized;
  if (!added_tokens.IsMissing()) YOIO_RETURN_IF_ERROR(added_tokens.IsArray());
  for (size_t i = 0; i < added_tokens.size(); ++i) {
    YOIO_RETURN_IF_ERROR(ReadAddedToken(added_tokens[i], vocabulary, raw, normalized));
  }
  return BpeTokenizerParts{.vocabulary = std::move(vocabulary.entries),
                           .raw_tokens = std::move(raw),
                           .normalized_tokens = std::move(normalized),
                           .pre_tokenizer = PreTokenizer(std::move(steps)),
                           .encoder = std::move(encoder)};
}

}  // namespace yoio
