// The service config that this client uses and docs/clients.md gives to every other one.
#ifndef YOIO_CLIENT_SERVICE_CONFIG_H_
#define YOIO_CLIENT_SERVICE_CONFIG_H_

namespace yoio {

// Calls go to all servers behind a name in turn, and what fails before `accepted` is tried again: at most
// four attempts, the pause doubling unless the server names it by `grpc-retry-pushback-ms`, and none while
// more than half of all attempts fail. A health check is not part of it: a server's health has a listener
// of its own, and a server that drains says so on the connection.
inline constexpr char kServiceConfig[] = R"json({
  "loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [{
    "name": [{"service": "yoio.v1.InferenceService"}],
    "retryPolicy": {
      "maxAttempts": 4,
      "initialBackoff": "0.2s",
      "maxBackoff": "5s",
      "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]
    }
  }],
  "retryThrottling": {"maxTokens": 100, "tokenRatio": 1}
})json";

}  // namespace yoio

#endif  // YOIO_CLIENT_SERVICE_CONFIG_H_
