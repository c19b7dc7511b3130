#include <algorithm>
#include <cmath>

#include "tests/support/backend_test.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace yoio::test {
namespace {

using kernels::BFloat16;
using kernels::DType;
using kernels::Matrix;

// A weight matrix in device memory, and what it stands for.
struct Weights {
  DeviceArray<BFloat16> halves;  // empty when the matrix is stored as floats
  DeviceArray<float> floats;     // empty when it is stored as bfloat16
  std::vector<float> values;     // [n, k]
  Matrix matrix;
};

class MatMulTest : public BackendTest {
 protected:
  Weights MakeWeights(DType dtype, int n, int k, Random& random) {
    std::vector<float> values = random.Normals(static_cast<size_t>(n) * k);
    std::vector<BFloat16> halves;
    if (dtype == DType::kBF16) {
      for (float& value : values) {
        halves.push_back(kernels::ToBFloat16(value));
        value = kernels::ToFloat(halves.back());
      }
    }
    Weights weights = {
        Upload(halves), Upload(dtype == DType::kF32 ? values : std::vector<float>()), values, {}};
    const void* data =
        dtype == DType::kF32 ? static_cast<const void*>(weights.floats.data()) : weights.halves.data();
    weights.matrix = {data, dtype, n, k};
    return weights;
  }

  // Multiplies rows [begin, end) of x, all of one kind, and returns them without gaps.
  std::vector<float> Multiply(const DeviceArray<float>& x, const Weights& w, int begin, int end, bool prompt,
                              int num_threads = 2) {
    const int n = static_cast<int>(w.matrix.rows), k = static_cast<int>(w.matrix.cols);
    const DeviceArray<float> y = Poisoned<float>(static_cast<size_t>(end - begin) * n);
    backend().MatMul({.x = x.data() + static_cast<size_t>(begin) * k,
                      .x_stride = k,
                      .w = w.matrix,
                      .num_rows = end - begin,
                      .num_prompt_rows = prompt ? end - begin : 0,
                      .y = y.data(),
                      .y_stride = n},
                     stream(num_threads));
    return y.Read();
  }
};

std::vector<float> Rows(const std::vector<float>& values, int width, int begin, int end) {
  return {values.begin() + static_cast<size_t>(begin) * width,
          values.begin() + static_cast<size_t>(end) * width};
}

TEST_P(MatMulTest, MatchesTheDotProducts) {
  constexpr int kXGap = 5, kYGap = 3;
  constexpr int kShapes[][2] = {{1, 1}, {5, 16}, {17, 63}, {64, 64}, {96, 1000}, {256, 256}, {300, 257}};
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    for (const auto& [n, k] : kShapes) {
      Random random(n * 7 + k);
      const Weights w = MakeWeights(dtype, n, k, random);
      for (const int num_rows : {1, 3, 17, 65}) {
        SCOPED_TRACE(testing::Message() << "n " << n << ", k " << k << ", rows " << num_rows);
        const std::vector<float> x = random.Normals(static_cast<size_t>(num_rows) * (k + kXGap));
        const DeviceArray<float> device_x = Upload(x);
        const DeviceArray<float> y = Poisoned<float>(static_cast<size_t>(num_rows) * (n + kYGap));
        backend().MatMul({.x = device_x.data(),
                          .x_stride = k + kXGap,
                          .w = w.matrix,
                          .num_rows = num_rows,
                          .num_prompt_rows = num_rows / 2,
                          .y = y.data(),
                          .y_stride = n + kYGap},
                         stream());
        const std::vector<float> result = y.Read();
        std::vector<float> actual;
        std::vector<double> expected, bound;
        for (int row = 0; row < num_rows; ++row) {
          for (int column = 0; column < n; ++column) {
            double sum = 0.0, magnitude = 0.0;
            for (int i = 0; i < k; ++i) {
              const double product = double{x[static_cast<size_t>(row) * (k + kXGap) + i]} *
                                     w.values[static_cast<size_t>(column) * k + i];
              sum += product;
              magnitude += std::abs(product);
            }
            actual.push_back(result[static_cast<size_t>(row) * (n + kYGap) + column]);
            expected.push_back(sum);
            bound.push_back(DotBound(k, magnitude));
          }
          for (int gap = n; gap < n + kYGap; ++gap) {
            EXPECT_TRUE(IsPoison(result[static_cast<size_t>(row) * (n + kYGap) + gap]));
          }
        }
        EXPECT_TRUE(AllNear(actual, expected, bound));
      }
    }
  }
}

// Invariant I5, for every number of rows up to two passes over the weights, at the beginning, the middle and
// the end of a batch in turn.
TEST_P(MatMulTest, ARowHasTheSameBitsInAnyCompany) {
  constexpr int kRows = 130;
  constexpr int kShapes[][2] = {{48, 64}, {300, 256}, {64, 1536}, {16, 4096}};
  for (const auto& [n, k] : kShapes) {
    Random random(n + k);
    const Weights w = MakeWeights(DType::kBF16, n, k, random);
    const DeviceArray<float> x = Upload(random.Normals(static_cast<size_t>(kRows) * k));
    for (const bool prompt : {true, false}) {
      const std::vector<float> all = Multiply(x, w, 0, kRows, prompt);
      for (int count = 1; count < kRows; ++count) {
        const int begin = (kRows - count) * (count % 3) / 2;
        ASSERT_TRUE(
            SameBits(Multiply(x, w, begin, begin + count, prompt), Rows(all, n, begin, begin + count)))
            << "n " << n << ", k " << k << ", prompt " << prompt << ", rows " << begin << " to "
            << begin + count;
      }
    }
  }
}

TEST_P(MatMulTest, ARowHasTheSameBitsAmongManyRows) {
  constexpr int kRows = 1100, kColumns = 256, kDepth = 256;
  Random random(3);
  const Weights w = MakeWeights(DType::kBF16, kColumns, kDepth, random);
  const DeviceArray<float> x = Upload(random.Normals(kRows * kDepth));
  for (const bool prompt : {true, false}) {
    const std::vector<float> all = Multiply(x, w, 0, kRows, prompt);
    for (const auto& [begin, end] : {std::pair(0, 512), {512, 513}, {513, kRows}}) {
      EXPECT_TRUE(SameBits(Multiply(x, w, begin, end, prompt), Rows(all, kColumns, begin, end)));
    }
  }
}

TEST_P(MatMulTest, KindsOfRowsDoNotMix) {
  constexpr int kRows = 40, kPrompt = 23, kColumns = 272, kDepth = 320;
  Random random(4);
  const Weights w = MakeWeights(DType::kBF16, kColumns, kDepth, random);
  const DeviceArray<float> x = Upload(random.Normals(kRows * kDepth));
  const DeviceArray<float> y = Poisoned<float>(kRows * kColumns);
  backend().MatMul({.x = x.data(),
                    .x_stride = kDepth,
                    .w = w.matrix,
                    .num_rows = kRows,
                    .num_prompt_rows = kPrompt,
                    .y = y.data(),
                    .y_stride = kColumns},
                   stream());
  const std::vector<float> mixed = y.Read();
  EXPECT_TRUE(SameBits(Rows(mixed, kColumns, 0, kPrompt), Multiply(x, w, 0, kPrompt, true)));
  EXPECT_TRUE(SameBits(Rows(mixed, kColumns, kPrompt, kRows), Multiply(x, w, kPrompt, kRows, false)));
}

TEST_P(MatMulTest, ThreadsDoNotChangeBits) {
  constexpr int kRows = 70, kColumns = 777, kDepth = 300;
  Random random(5);
  const Weights w = MakeWeights(DType::kBF16, kColumns, kDepth, random);
  const DeviceArray<float> x = Upload(random.Normals(kRows * kDepth));
  for (const bool prompt : {true, false}) {
    const std::vector<float> one = Multiply(x, w, 0, kRows, prompt, 1);
    for (const int num_threads : {2, 3}) {
      EXPECT_TRUE(SameBits(Multiply(x, w, 0, kRows, prompt, num_threads), one)) << num_threads << " threads";
    }
  }
}

TEST_P(MatMulTest, NoRowsWriteNothing) {
  Random random(6);
  const Weights w = MakeWeights(DType::kBF16, 16, 16, random);
  const DeviceArray<float> x = Poisoned<float>(16), y = Poisoned<float>(16);
  backend().MatMul({.x = x.data(),
                    .x_stride = 16,
                    .w = w.matrix,
                    .num_rows = 0,
                    .num_prompt_rows = 0,
                    .y = y.data(),
                    .y_stride = 16},
                   stream());
  for (const float value : y.Read()) EXPECT_TRUE(IsPoison(value));
}

YOIO_TEST_ON_BACKENDS(MatMulTest);

}  // namespace
}  // namespace yoio::test
