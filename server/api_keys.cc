#include "server/api_keys.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"
#include "engine/files/json_cursor.h"
#include "engine/files/strict_json.h"
#include "nlohmann/json.hpp"
#include "server/secret_file.h"

namespace yoio {
namespace {

constexpr size_t kMaxFileBytes = 4 << 20;
constexpr size_t kMaxKeys = 4096;
constexpr size_t kHashBytes = 32;
constexpr size_t kMaxTenantBytes = 128;

// `object` has no keys but `known`.
absl::Status CheckKeys(const JsonCursor& object, const std::vector<std::string_view>& known) {
  YOIO_RETURN_IF_ERROR(object.IsObject());
  for (const auto& item : object.value().items()) {
    if (std::find(known.begin(), known.end(), item.key()) == known.end()) {
      return object.MustBe("an object without unknown keys", "the key " + Quoted(item.key()));
    }
  }
  return absl::OkStatus();
}

// These leave `target` alone when there is no value.
template <typename Int>
absl::Status ReadCount(const JsonCursor& value, Int& target) {
  if (value.IsMissing()) return absl::OkStatus();
  YOIO_ASSIGN_OR_RETURN(const int64_t count, value.Integer(0, std::numeric_limits<Int>::max()));
  target = static_cast<Int>(count);
  return absl::OkStatus();
}

absl::Status ReadPositive(const JsonCursor& value, double max, double& target) {
  if (value.IsMissing()) return absl::OkStatus();
  YOIO_ASSIGN_OR_RETURN(target, value.Number());
  if (target > 0 && target <= max) return absl::OkStatus();
  return value.MustBe(absl::StrCat("above 0 and at most ", max));
}

absl::Status ReadLimits(const JsonCursor& value, TenantLimits& limits) {
  constexpr double kMaxWeight = 1e6;
  if (value.IsMissing()) return absl::OkStatus();
  YOIO_RETURN_IF_ERROR(CheckKeys(value, {"max_requests", "max_queued_tokens", "max_cache_share", "weight"}));
  YOIO_RETURN_IF_ERROR(ReadCount(value["max_requests"], limits.max_requests));
  YOIO_RETURN_IF_ERROR(ReadCount(value["max_queued_tokens"], limits.max_queued_tokens));
  YOIO_RETURN_IF_ERROR(ReadPositive(value["max_cache_share"], 1, limits.max_cache_share));
  return ReadPositive(value["weight"], kMaxWeight, limits.weight);
}

absl::Status ReadPriority(const JsonCursor& value, Priority& priority) {
  if (value.IsMissing()) return absl::OkStatus();
  YOIO_ASSIGN_OR_RETURN(const std::string name, value.String());
  if (name == "low") {
    priority = Priority::kLow;
  } else if (name == "normal") {
    priority = Priority::kNormal;
  } else if (name == "high") {
    priority = Priority::kHigh;
  } else {
    return value.MustBe("'low', 'normal' or 'high'");
  }
  return absl::OkStatus();
}

absl::StatusOr<Caller> ReadCaller(const JsonCursor& entry, const TenantLimits& defaults) {
  YOIO_RETURN_IF_ERROR(CheckKeys(entry, {"sha256", "tenant", "limits", "max_priority"}));
  Caller caller{.tenant = "", .limits = defaults, .max_priority = Priority::kNormal};
  YOIO_ASSIGN_OR_RETURN(caller.tenant, entry["tenant"].String());
  if (!IsTenantName(caller.tenant)) {
    return entry["tenant"].MustBe(absl::StrCat("1 to ", kMaxTenantBytes, " of [A-Za-z0-9._:-]"));
  }
  YOIO_RETURN_IF_ERROR(ReadLimits(entry["limits"], caller.limits));
  YOIO_RETURN_IF_ERROR(ReadPriority(entry["max_priority"], caller.max_priority));
  return caller;
}

// The bytes that the entry gives in hexadecimal digits. A wrong value may be a key itself: it is not
// repeated.
absl::StatusOr<std::string> ReadHash(const JsonCursor& value) {
  YOIO_ASSIGN_OR_RETURN(const std::string digits, value.String());
  if (digits.size() == 2 * kHashBytes && std::all_of(digits.begin(), digits.end(), absl::ascii_isxdigit)) {
    return absl::HexStringToBytes(digits);
  }
  return value.MustBe(absl::StrCat(2 * kHashBytes, " hexadecimal digits"), "another string");
}

}  // namespace

bool IsTenantName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxTenantBytes && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == ':' || c == '-';
  });
}

absl::StatusOr<ApiKeys> ApiKeys::Parse(std::string_view text, const std::string& origin,
                                       const TenantLimits& defaults) {
  YOIO_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text, origin));
  const JsonCursor list(json, origin);
  YOIO_RETURN_IF_ERROR(list.IsArray());
  if (list.size() > kMaxKeys) return list.MustBe(absl::StrCat("a list of at most ", kMaxKeys, " keys"));
  ApiKeys keys;
  for (size_t i = 0; i < list.size(); ++i) {
    YOIO_ASSIGN_OR_RETURN(Caller caller, ReadCaller(list[i], defaults));
    YOIO_ASSIGN_OR_RETURN(const std::string bytes, ReadHash(list[i]["sha256"]));
    Hash hash;
    std::memcpy(hash.data(), bytes.data(), sizeof hash);
    if (std::find(keys.hashes_.begin(), keys.hashes_.end(), hash) != keys.hashes_.end()) {
      return list[i]["sha256"].MustBe("no other entry's", "that of an entry before");
    }
    keys.hashes_.push_back(hash);
    keys.callers_.push_back(std::move(caller));
  }
  return keys;
}

absl::StatusOr<ApiKeys> ApiKeys::Read(const std::string& path, const TenantLimits& defaults) {
  YOIO_ASSIGN_OR_RETURN(const std::string text, ReadSecretFile(path, kMaxFileBytes));
  return Parse(text, path, defaults);
}

const Caller* ApiKeys::Find(std::string_view key) const {
  Hash hash;
  static_assert(sizeof hash == kHashBytes);
  YOIO_CHECK(EVP_Digest(key.data(), key.size(), reinterpret_cast<unsigned char*>(hash.data()), nullptr,
                        EVP_sha256(), nullptr) == 1);
  size_t found = hashes_.size();
  for (size_t i = 0; i < hashes_.size(); ++i) {
    uint64_t difference = 0;
    for (size_t word = 0; word < hash.size(); ++word) difference |= hash[word] ^ hashes_[i][word];
    // All ones when nothing differs, without a branch.
    const uint64_t same = ((difference | (~difference + 1)) >> 63) - 1;
    found = (found & ~same) | (i & same);
  }
  return found == hashes_.size() ? nullptr : &callers_[found];
}

}  // namespace yoio
