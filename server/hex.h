// Ids as people write them.
#ifndef YOIO_SERVER_HEX_H_
#define YOIO_SERVER_HEX_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"

namespace yoio {

// Lower case, two characters a byte: "4bf92f35".
template <size_t N>
std::string HexOf(const std::array<uint8_t, N>& bytes) {
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(bytes.data()), N));
}

}  // namespace yoio

#endif  // YOIO_SERVER_HEX_H_
