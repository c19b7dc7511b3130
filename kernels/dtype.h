// Element types of weights and activations.
#ifndef YOIO_KERNELS_DTYPE_H_
#define YOIO_KERNELS_DTYPE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace yoio::kernels {

enum class DType : uint8_t { kF32, kBF16 };

constexpr size_t SizeOf(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

// The upper half of a float. Arithmetic never happens in this type: load, widen, compute.
struct BFloat16 {
  uint16_t bits;
};

inline float ToFloat(BFloat16 value) {
  const uint32_t wide = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &wide, sizeof(result));
  return result;
}

// Rounds to nearest, ties to even. NaN stays NaN.
inline BFloat16 ToBFloat16(float value) {
  uint32_t wide;
  std::memcpy(&wide, &value, sizeof(wide));
  if ((wide & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((wide >> 16) | 0x40u)};
  wide += 0x7fffu + ((wide >> 16) & 1u);
  return {static_cast<uint16_t>(wide >> 16)};
}

}  // namespace yoio::kernels

#endif  // YOIO_KERNELS_DTYPE_H_
