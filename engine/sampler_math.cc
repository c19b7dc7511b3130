#include "engine/sampler_math.h"

#include <algorithm>

namespace yoio {
namespace {

// log(2) in two parts: the first has so few bits that a small integer times it is exact.
constexpr double kLog2High = 0x1.62e42feep-1;
constexpr double kLog2Low = 0x1.a39ef35793c76p-33;
constexpr float kLog2HighF = 0.693359375f;  // 355 / 512
constexpr float kLog2LowF = -2.12194440e-4f;

inline float Clamp(float x) { return x < -86.0f ? -86.0f : x; }

// PortableExp of a clamped x. Free of branches, and apart from the clamp, so that compilers make vectors of
// it.
inline float ExpOfClamped(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  const float shifted = x * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * kLog2HighF) - n * kLog2LowF;  // |r| <= log(2) / 2
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

}  // namespace

double PortableLog(double x) {
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
  double series = 0.0;
  for (int k = 21; k >= 3; k -= 2) series = (series + 1.0 / k) * z;
  const double log_m = 2.0 * s + 2.0 * s * series;
  return exponent * kLog2High + (exponent * kLog2Low + log_m);
}

float PortableExp(float x) { return ExpOfClamped(Clamp(x)); }

double SumExp(const float* x, int count, float shift, float temperature) {
  constexpr int kTile = 256;
  constexpr int kLanes = 16;  // each adds 16 floats of a tile before they go to a double
  double sum = 0.0;
  float weights[kTile];
  for (int begin = 0; begin < count; begin += kTile) {
    const int size = std::min(kTile, count - begin);
    for (int i = 0; i < size; ++i) weights[i] = Clamp((x[begin + i] - shift) / temperature);
    for (int i = 0; i < size; ++i) weights[i] = ExpOfClamped(weights[i]);
    std::fill(weights + size, weights + kTile, 0.0f);
    float lanes[kLanes] = {};
    for (int row = 0; row < kTile; row += kLanes) {
      for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += weights[row + lane];
    }
    for (float lane : lanes) sum += lane;
  }
  return sum;
}

double GumbelNoise(uint32_t bits) {
  const double u = (static_cast<double>(bits) + 0.5) * 0x1p-32;  // exact
  return -PortableLog(-PortableLog(u));
}

}  // namespace yoio
