// The random numbers, logarithms and weights that a token is drawn with: the same bits on every device.
//
// Everything here is integer arithmetic, or IEEE operations (+ - * / and conversions) each rounded once and
// in the order written: no library function, no reordering, no fused multiply-add (whoever includes this is
// compiled with -ffp-contract=off, or -fmad=false on CUDA). All functions are constexpr, which is what lets
// device code call them.
#ifndef YOIO_KERNELS_DRAW_MATH_H_
#define YOIO_KERNELS_DRAW_MATH_H_

#include <array>
#include <bit>
#include <cstdint>

namespace yoio::kernels {

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3; SC 2011): 128
// random bits that depend on counter and key and on nothing else.
constexpr std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
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
constexpr double PortableLog(double x) {
  // log(2) in two parts: the first has so few bits that a small integer times it is exact.
  constexpr double kLog2High = 0x1.62e42feep-1;
  constexpr double kLog2Low = 0x1.a39ef35793c76p-33;
  constexpr uint64_t kMantissa = (uint64_t{1} << 52) - 1;
  constexpr uint64_t kOne = uint64_t{1023} << 52;
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & kMantissa) | kOne);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  // log(m) = 2 artanh(s) with |s| < 0.172: eleven terms leave less than 1e-17.
  const double s = (m - 1.0) / (m + 1.0);
  const double z = s * s;
  double series = 1.0 / 21 * z;
  series = (series + 1.0 / 19) * z;
  series = (series + 1.0 / 17) * z;
  series = (series + 1.0 / 15) * z;
  series = (series + 1.0 / 13) * z;
  series = (series + 1.0 / 11) * z;
  series = (series + 1.0 / 9) * z;
  series = (series + 1.0 / 7) * z;
  series = (series + 1.0 / 5) * z;
  series = (series + 1.0 / 3) * z;
  const double log_m = 2.0 * s + 2.0 * s * series;
  return exponent * kLog2High + (exponent * kLog2Low + log_m);
}

// Where PortableExp ends: e^-86 is nothing beside the 1 of a largest weight.
constexpr float ClampExponent(float x) { return x < -86.0f ? -86.0f : x; }

// PortableExp of a clamped x. Free of branches, and apart from the clamp, so that compilers make vectors of
// it.
constexpr float ExpOfClamped(float x) {
  constexpr float kLog2High = 0.693359375f;  // 355 / 512
  constexpr float kLog2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  const float shifted = x * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * kLog2High) - n * kLog2Low;  // |r| <= log(2) / 2
  // The series of e^r: the first term left out is below 6e-9.
  float y = 1.0f / 5040;
  y = y * r + 1.0f / 720;
  y = y * r + 1.0f / 120;
  y = y * r + 1.0f / 24;
  y = y * r + 1.0f / 6;
  y = y * r + 0.5f;
  y = y * r + 1.0f;
  y = y * r + 1.0f;
  // y lies in [0.7, 1.5] and n in [-125, 0]: adding n to the exponent field multiplies by 2^n.
  return std::bit_cast<float>(std::bit_cast<uint32_t>(y) + (std::bit_cast<uint32_t>(shifted) << 23));
}

// e^x for x <= 0, to about 2e-7 of the result. Below -86 it stays at e^-86; minus infinity is allowed.
constexpr float PortableExp(float x) { return ExpOfClamped(ClampExponent(x)); }

// Weights in fixed point: sums of up to 2^20 of them are exact, hence the same in whatever order a device
// adds. Cutting off the rest moves the sum over a vocabulary by less than PortableExp's own error.
inline constexpr float kWeightOne = 0x1p42f;
constexpr int64_t FixedWeight(float exponential) { return static_cast<int64_t>(exponential * kWeightOne); }

// The sum of weights that top-p asks for, of a total; at least one token's.
constexpr int64_t WeightGoal(float top_p, int64_t total) {
  const double goal = static_cast<double>(top_p) * static_cast<double>(total);
  const int64_t whole = static_cast<int64_t>(goal);
  if (whole < 1) return 1;
  return static_cast<double>(whole) < goal ? whole + 1 : whole;
}

// A draw of the standard Gumbel distribution, -log(-log(u)) with u = (bits + 1/2) / 2^32.
constexpr double GumbelNoise(uint32_t bits) {
  const double u = (static_cast<double>(bits) + 0.5) * 0x1p-32;  // exact
  return -PortableLog(-PortableLog(u));
}

// No less than GumbelNoise(bits), without a logarithm: with k leading ones in `bits`, 1 - u > 2^-(k + 1), and
// -log(u) > 1 - u. The addition covers the rounding of GumbelNoise.
constexpr double GumbelBound(uint32_t bits) {
  constexpr double kLog2 = 0.6931471805599453;
  return (std::countl_one(bits) + 1) * kLog2 + 1e-9;
}
inline constexpr double kMaxGumbelNoise = 22.8738570;  // GumbelBound of all ones, rounded up
inline constexpr double kMinGumbelNoise = -3.1300250;  // GumbelNoise of no ones, rounded down

}  // namespace yoio::kernels

#endif  // YOIO_KERNELS_DRAW_MATH_H_
