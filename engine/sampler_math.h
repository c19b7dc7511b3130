// The random numbers and the few functions of the sampler, the same bits on every device.
//
// Everything here is integer arithmetic, or IEEE operations (+ - * / and conversions) each rounded once and
// in the order written: no library function, no fused multiply-add (the sources are compiled with
// -ffp-contract=off; device code writes __dmul_rn and the like), no reordering by a compiler.
#ifndef YOIO_ENGINE_SAMPLER_MATH_H_
#define YOIO_ENGINE_SAMPLER_MATH_H_

#include <array>
#include <bit>
#include <cstdint>

namespace yoio {

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3; SC 2011): 128
// random bits that depend on counter and key and on nothing else.
inline std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0];
    const uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

// Natural logarithm of a positive normal number, to about 2 units in the last place.
double PortableLog(double x);

// e^x for x <= 0, to about 2e-7 of the result. Below -86 it stays at e^-86, which is nothing beside the 1 of
// a largest weight; minus infinity is allowed.
float PortableExp(float x);

// Sum of e^((x[i] - shift) / temperature) for i < count, where no x[i] exceeds shift. Four elements at a time
// on the smallest machine; the order of the additions does not depend on the machine.
double SumExp(const float* x, int count, float shift, float temperature);

// A draw of the standard Gumbel distribution, -log(-log(u)) with u = (bits + 1/2) / 2^32.
double GumbelNoise(uint32_t bits);

// No less than GumbelNoise(bits), without a logarithm: with k leading ones in `bits`, 1 - u > 2^-(k + 1), and
// -log(u) > 1 - u. The addition covers the rounding of GumbelNoise.
inline double GumbelBound(uint32_t bits) {
  constexpr double kLog2 = 0.6931471805599453;
  return (std::countl_one(bits) + 1) * kLog2 + 1e-9;
}
inline constexpr double kMaxGumbelNoise = 22.8738570;  // GumbelBound of all ones, rounded up

}  // namespace yoio

#endif  // YOIO_ENGINE_SAMPLER_MATH_H_
