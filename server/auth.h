// How callers of InferenceService show who they are.
#ifndef YOIO_SERVER_AUTH_H_
#define YOIO_SERVER_AUTH_H_

#include <memory>

#include "absl/status/statusor.h"
#include "server/api_keys.h"
#include "server/caller.h"
#include "server/reloaded.h"

namespace yoio {

// What decides who a caller is, the first that is there: a key, a client certificate, nothing.
struct AuthOptions {
  const Reloaded<ApiKeys>* keys = nullptr;  // null: calls need none. Outlives the authenticator
  bool client_certificates = false;         // the subject's common name is the tenant
  bool trust_tenant_header = false;         // x-yoio-tenant then names the tenant instead
  TenantLimits limits;                      // of callers who bring none
};

class ServerAuthenticator final : public Authenticator {
 public:
  explicit ServerAuthenticator(AuthOptions options) : options_(options) {}

  // Also INVALID_ARGUMENT for a trusted x-yoio-tenant that cannot be a tenant's name.
  absl::StatusOr<Caller> Authenticate(const grpc::CallbackServerContext& context) const override;

 private:
  absl::StatusOr<Caller> Identify(const grpc::CallbackServerContext& context) const;

  const AuthOptions options_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_AUTH_H_
