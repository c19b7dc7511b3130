// Secrets that travel in the metadata of a call: `authorization: Bearer SECRET`.
#ifndef YOIO_SERVER_TOKEN_H_
#define YOIO_SERVER_TOKEN_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace grpc {
class CallbackServerContext;
}

namespace yoio {

// The token in `path`, without the line's end behind it. NOT_FOUND when it cannot be read; INVALID_ARGUMENT
// unless it is one line of 16 to 4,096 visible ASCII characters; PERMISSION_DENIED when everybody may write
// to the file. None says what is in it.
absl::StatusOr<std::string> ReadToken(const std::string& path);

// The metadata of a call that carries a token, and its value there.
inline constexpr char kTokenMetadataKey[] = "authorization";
std::string TokenMetadata(std::string_view token);

// The token of a call; empty when it brings none, more than one, or something else. Valid as long as
// `context`.
std::string_view TokenOf(const grpc::CallbackServerContext& context);

// Takes as long for any `given` of the same length, so that nothing is learnt from the time.
bool SameSecret(std::string_view given, std::string_view expected);

}  // namespace yoio

#endif  // YOIO_SERVER_TOKEN_H_
