// Numbers for tests: the same on every machine and library, unlike the distributions of <random>.
#ifndef YOIO_TESTS_SUPPORT_RANDOM_H_
#define YOIO_TESTS_SUPPORT_RANDOM_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace yoio::test {

// SplitMix64. Not thread-safe.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Bits() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  // In [0, 1).
  double Uniform() { return static_cast<double>(Bits() >> 11) * 0x1p-53; }

  // In [0, bound).
  int Below(int bound) { return static_cast<int>(Bits() % static_cast<uint64_t>(bound)); }

  // Mean 0, variance 1, bell-shaped: the sum of twelve uniform numbers.
  float Normal() {
    double sum = -6.0;
    for (int i = 0; i < 12; ++i) sum += Uniform();
    return static_cast<float>(sum);
  }

  std::vector<float> Normals(size_t count, float scale = 1.0f) {
    std::vector<float> values(count);
    for (float& value : values) value = scale * Normal();
    return values;
  }

  // 0 .. count - 1 in a random order.
  std::vector<int32_t> Permutation(int count) {
    std::vector<int32_t> values(count);
    for (int i = 0; i < count; ++i) {
      values[i] = i;
      std::swap(values[i], values[Below(i + 1)]);
    }
    return values;
  }

 private:
  uint64_t state_;
};

}  // namespace yoio::test

#endif  // YOIO_TESTS_SUPPORT_RANDOM_H_
