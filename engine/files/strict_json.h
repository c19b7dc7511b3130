// JSON from outside: bounded, without exceptions, without silent choices.
#ifndef YOIO_ENGINE_FILES_STRICT_JSON_H_
#define YOIO_ENGINE_FILES_STRICT_JSON_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"

namespace yoio {

// Containers inside containers, the outermost counted. More than any format read here needs.
inline constexpr int kMaxJsonDepth = 32;

// Parses JSON text (RFC 8259). INVALID_ARGUMENT naming `origin` for a syntax error, nesting beyond
// kMaxJsonDepth, or a key that an object has twice: parsers differ in which of the two they believe.
// Memory: up to about 16 times the text, when it is all tiny values.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, const std::string& origin);

// "object", "array", "string", "boolean", "integer", "number" or "null", for error messages.
std::string JsonTypeName(const nlohmann::json& value);

// `text` in single quotes for an error message: escaped, and cut when long. Files choose their own names.
std::string Quoted(std::string_view text);

}  // namespace yoio

#endif  // YOIO_ENGINE_FILES_STRICT_JSON_H_
