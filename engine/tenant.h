// What one tenant may take of a server that it shares with others.
#ifndef YOIO_ENGINE_TENANT_H_
#define YOIO_ENGINE_TENANT_H_

#include <cstdint>

namespace yoio {

// 0 means no limit of the tenant's own; those of the server hold for all tenants together. Beyond a limit a
// request is refused with RESOURCE_EXHAUSTED, TENANT_LIMIT, before any work is done for it, but for the
// cache: there it waits until requests of its own tenant have ended.
struct TenantLimits {
  int32_t max_requests = 0;       // live ones, queued or running
  int64_t max_queued_tokens = 0;  // prompt tokens of those that wait
  double max_cache_share = 1.0;   // (0, 1]: of the cache's global blocks, held by its running requests
  double weight = 1.0;  // > 0: its share of the steps beside other tenants who have requests waiting

  bool operator==(const TenantLimits&) const = default;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_TENANT_H_
