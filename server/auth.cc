#include "server/auth.h"

#include <grpc/grpc_security_constants.h>
#include <grpcpp/security/auth_context.h>
#include <grpcpp/server_context.h>

#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "server/token.h"

namespace yoio {
namespace {

constexpr char kTenantMetadataKey[] = "x-yoio-tenant";

}  // namespace

absl::StatusOr<Caller> ServerAuthenticator::Authenticate(const grpc::CallbackServerContext& context) const {
  YOIO_ASSIGN_OR_RETURN(Caller caller, Identify(context));
  if (!options_.trust_tenant_header) return caller;
  const auto [begin, end] = context.client_metadata().equal_range(kTenantMetadataKey);
  if (begin == end) return caller;
  const std::string_view tenant(begin->second.data(), begin->second.size());
  if (std::next(begin) != end || !IsTenantName(tenant)) {
    return absl::InvalidArgumentError("x-yoio-tenant: expected 1 to 128 of [A-Za-z0-9._:-], once");
  }
  caller.tenant = tenant;
  return caller;
}

absl::StatusOr<Caller> ServerAuthenticator::Identify(const grpc::CallbackServerContext& context) const {
  if (options_.keys != nullptr) {
    const std::string_view key = TokenOf(context);
    if (key.empty()) {
      return absl::UnauthenticatedError("expected the metadata authorization: Bearer KEY, once");
    }
    const std::shared_ptr<const ApiKeys> keys = options_.keys->current();
    const Caller* caller = keys->Find(key);
    if (caller == nullptr) return absl::UnauthenticatedError("the key is not known");
    return *caller;
  }
  Caller caller{.limits = options_.limits};
  if (options_.client_certificates) {
    const std::vector<grpc::string_ref> names =
        context.auth_context()->FindPropertyValues(GRPC_X509_CN_PROPERTY_NAME);
    if (names.size() != 1 || names[0].empty()) {
      return absl::UnauthenticatedError("the client's certificate has no common name");
    }
    caller.tenant.assign(names[0].data(), names[0].size());
  }
  return caller;
}

}  // namespace yoio
