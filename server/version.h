// What this build calls itself.
#ifndef YOIO_SERVER_VERSION_H_
#define YOIO_SERVER_VERSION_H_

namespace yoio {

inline constexpr char kVersion[] = "0.1.0";
// Rises by one with every addition to the package yoio.v1 (tests/server/schema_test.cc asks for it).
inline constexpr int kSchemaRevision = 3;

}  // namespace yoio

#endif  // YOIO_SERVER_VERSION_H_
