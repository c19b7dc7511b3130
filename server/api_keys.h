// The keys that callers present, and what each allows.
#ifndef YOIO_SERVER_API_KEYS_H_
#define YOIO_SERVER_API_KEYS_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/caller.h"

namespace yoio {

// A table of keys, of which only the hashes are known. Immutable.
class ApiKeys {
 public:
  // `json` is what --api-keys names (docs/operations.md): a list of objects
  //   {"sha256": HEX, "tenant": NAME, "max_priority": "low" | "normal" | "high", "limits": {"max_requests":
  //   N,
  //    "max_queued_tokens": N, "max_cache_share": RATIO, "weight": W}}
  // where `sha256` and `tenant` are required, max_priority is "normal" and each limit that of `defaults`.
  // INVALID_ARGUMENT names `origin`, the entry and what was expected.
  static absl::StatusOr<ApiKeys> Parse(std::string_view json, const std::string& origin,
                                       const TenantLimits& defaults);

  // Reads the file `path` and parses it; errors also as ReadSecretFile (server/secret_file.h).
  static absl::StatusOr<ApiKeys> Read(const std::string& path, const TenantLimits& defaults);

  // Who has `key`; null for nobody. Looks at every entry, whichever it is: the time says nothing. Valid as
  // long as the table.
  const Caller* Find(std::string_view key) const;

  size_t size() const { return callers_.size(); }

 private:
  using Hash = std::array<uint64_t, 4>;  // SHA-256, as it lies in memory
  std::vector<Hash> hashes_;
  std::vector<Caller> callers_;  // of the hash with the same index
};

// What names a tenant: 1 to 128 of [A-Za-z0-9._:-].
bool IsTenantName(std::string_view name);

}  // namespace yoio

#endif  // YOIO_SERVER_API_KEYS_H_
