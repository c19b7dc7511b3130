// The secret that the nodes of one engine share.
#ifndef YOIO_SERVER_FOLLOWER_TOKEN_H_
#define YOIO_SERVER_FOLLOWER_TOKEN_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace yoio {

// The token in `path`, without the line's end behind it. NOT_FOUND when it cannot be read; INVALID_ARGUMENT
// unless it is one line of 16 to 4,096 visible ASCII characters. Neither says what is in it.
absl::StatusOr<std::string> ReadFollowerToken(const std::string& path);

// The metadata of a call that carries the token, and its value there.
inline constexpr char kTokenMetadataKey[] = "authorization";
std::string TokenMetadata(std::string_view token);

// Takes as long for any `given` of the same length, so that nothing is learnt from the time.
bool SameSecret(std::string_view given, std::string_view expected);

}  // namespace yoio

#endif  // YOIO_SERVER_FOLLOWER_TOKEN_H_
