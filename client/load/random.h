// Random numbers that are the same on every machine.
#ifndef YOIO_CLIENT_LOAD_RANDOM_H_
#define YOIO_CLIENT_LOAD_RANDOM_H_

#include <cmath>
#include <cstdint>

namespace yoio {

// SplitMix64: 8 bytes of state, a few instructions a draw. Seeds that differ in one bit give unrelated
// streams. Not thread-safe, not for secrets.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  // A generator of its own for the `index`-th of something.
  Random(uint64_t seed, uint64_t index) : state_(Random(seed).Next() ^ Random(~index).Next()) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

  // From 0 to below 1.
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }

  // From `least` to `most`, both included.
  int64_t Between(int64_t least, int64_t most) {
    return least + static_cast<int64_t>(Uniform() * static_cast<double>(most - least + 1));
  }

  // With mean 1.
  double Exponential() { return -std::log1p(-Uniform()); }

  // With mean 0 and deviation 1, by Box and Muller.
  double Normal() {
    const double radius = std::sqrt(2 * Exponential());
    return radius * std::cos(2 * M_PI * Uniform());
  }

 private:
  uint64_t state_;
};

}  // namespace yoio

#endif  // YOIO_CLIENT_LOAD_RANDOM_H_
