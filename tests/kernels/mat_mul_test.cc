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

// Widths of W, and how far apart the rows of x and y lie beyond them.
struct Shape {
  int n, k, x_gap, y_gap;
};

class MatMulTest : public BackendTest {
 protected:
  // Generated rows that share one read of W, whose bits are therefore independent of their number.
  static constexpr int kTogether = 64;

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

  // Multiplies rows [begin, end) of x, the first `num_prompt_rows` of them as prompt rows. Row i of the
  // result starts at i * y_stride; what lies between n and y_stride has to stay as it was.
  std::vector<float> Multiply(const ActivationArray& x, int x_stride, const Weights& w, int begin, int end,
                              int num_prompt_rows, DType y_type, int y_stride, int num_threads = 2) {
    const auto multiply = [&](void* y) {
      backend().MatMul({.x = x.at(static_cast<size_t>(begin) * x_stride),
                        .x_stride = x_stride,
                        .w = w.matrix,
                        .num_rows = end - begin,
                        .num_prompt_rows = num_prompt_rows,
                        .y = y,
                        .y_type = y_type,
                        .y_stride = y_stride},
                       stream(num_threads));
    };
    const size_t size = static_cast<size_t>(end - begin) * y_stride;
    if (y_type == DType::kF32) {
      const DeviceArray<float> y = Poisoned<float>(size);
      multiply(y.data());
      return y.Read();
    }
    const ActivationArray y = PoisonedActivations(size);
    multiply(y.data());
    return y.Read();
  }

  // Float results of dense rows of one kind, without gaps.
  std::vector<float> Multiply(const ActivationArray& x, const Weights& w, int begin, int end, bool prompt,
                              int num_threads = 2) {
    const int n = static_cast<int>(w.matrix.rows), y_stride = (n + 7) / 8 * 8;
    const std::vector<float> gapped = Multiply(x, static_cast<int>(w.matrix.cols), w, begin, end,
                                               prompt ? end - begin : 0, DType::kF32, y_stride, num_threads);
    std::vector<float> rows;
    for (int row = 0; row < end - begin; ++row) {
      const auto from = gapped.begin() + static_cast<size_t>(row) * y_stride;
      rows.insert(rows.end(), from, from + n);
    }
    return rows;
  }

  void ExpectDotProducts(const Shape& shape, DType w_type, DType y_type, int num_rows) {
    const auto& [n, k, x_gap, y_gap] = shape;
    SCOPED_TRACE(testing::Message() << "n " << n << ", k " << k << ", rows " << num_rows << ", y "
                                    << (y_type == DType::kF32 ? "float" : "bf16"));
    Random random(n * 7 + k + num_rows);
    const Weights w = MakeWeights(w_type, n, k, random);
    const ActivationArray x = Activations(random.Normals(static_cast<size_t>(num_rows) * (k + x_gap)));
    const std::vector<float> result = Multiply(x, k + x_gap, w, 0, num_rows, num_rows / 2, y_type, n + y_gap);
    // Tensor cores cut off where others round: twice the error a sum.
    const double sum_errors = on_cuda() ? 2.0 : 1.0;
    const double unit = y_type == DType::kF32 ? 0.0 : activation_unit();
    std::vector<float> actual;
    std::vector<double> expected, bound;
    for (int row = 0; row < num_rows; ++row) {
      const float* x_row = x.values().data() + static_cast<size_t>(row) * (k + x_gap);
      for (int column = 0; column < n; ++column) {
        const float* w_row = w.values.data() + static_cast<size_t>(column) * k;
        double sum = 0.0, magnitude = 0.0;
        for (int i = 0; i < k; ++i) {
          const double product = double{x_row[i]} * w_row[i];
          sum += product;
          magnitude += std::abs(product);
        }
        actual.push_back(result[static_cast<size_t>(row) * (n + y_gap) + column]);
        expected.push_back(sum);
        const double sum_bound = sum_errors * DotBound(k, magnitude);
        bound.push_back(sum_bound + unit * (std::abs(sum) + sum_bound));
      }
      for (int gap = n; gap < n + y_gap; ++gap) {
        EXPECT_TRUE(IsPoison(result[static_cast<size_t>(row) * (n + y_gap) + gap]));
      }
    }
    EXPECT_TRUE(AllNear(actual, expected, bound));
  }
};

std::vector<float> Rows(const std::vector<float>& values, int width, int begin, int end) {
  return {values.begin() + static_cast<size_t>(begin) * width,
          values.begin() + static_cast<size_t>(end) * width};
}

TEST_P(MatMulTest, MatchesTheDotProducts) {
  // The last ones are cut in every way that CUDA cuts: k in 1, 2, 4, 8 parts, tiles that end inside W. A CPU
  // has seen all of its ways by then.
  constexpr int kMostCpuWeights = 1 << 17;
  constexpr Shape kShapes[] = {{8, 8, 0, 0},      {96, 1000, 8, 0},   {64, 64, 16, 8},   {20, 256, 8, 4},
                               {300, 264, 0, 4},  {320, 320, 0, 0},   {256, 2560, 0, 8}, {1040, 320, 8, 0},
                               {4096, 256, 0, 0}, {9000, 128, 0, 16}, {33000, 64, 0, 0}};
  for (const Shape& shape : kShapes) {
    if (!on_cuda() && shape.n * shape.k > kMostCpuWeights) continue;
    for (const int num_rows : {1, 3, 17, 40, 66}) {
      ExpectDotProducts(shape, DType::kBF16, DType::kF32, num_rows);
      if (on_cuda()) ExpectDotProducts(shape, DType::kBF16, DType::kBF16, num_rows);
    }
  }
}

TEST_P(MatMulTest, MatchesTheDotProductsOfAnyWidth) {
  if (on_cuda()) GTEST_SKIP() << "CUDA asks for multiples of 8 and bf16 weights";
  constexpr Shape kShapes[] = {{1, 1, 5, 3},     {5, 16, 5, 3},    {17, 63, 5, 3},  {64, 64, 5, 3},
                               {96, 1000, 5, 3}, {256, 256, 5, 3}, {300, 257, 5, 3}};
  for (const DType w_type : {DType::kBF16, DType::kF32}) {
    for (const Shape& shape : kShapes) {
      for (const int num_rows : {1, 3, 17, 65}) ExpectDotProducts(shape, w_type, DType::kF32, num_rows);
    }
  }
}

// Invariant I5, for every number of rows up to two passes over the weights, at the beginning, the middle and
// the end of a batch in turn.
TEST_P(MatMulTest, ARowHasTheSameBitsInAnyCompany) {
  const int num_rows = on_cuda() ? kTogether : 130;
  constexpr int kShapes[][2] = {{48, 64}, {300, 256}, {64, 1536}, {16, 4096}, {2560, 320}};
  for (const auto& [n, k] : kShapes) {
    Random random(n + k);
    const Weights w = MakeWeights(DType::kBF16, n, k, random);
    const ActivationArray x = Activations(random.Normals(static_cast<size_t>(num_rows) * k));
    for (const bool prompt : {true, false}) {
      if (prompt && on_cuda()) continue;  // a library's choice, which follows the number of rows
      const std::vector<float> all = Multiply(x, w, 0, num_rows, prompt);
      for (int count = 1; count < num_rows; ++count) {
        const int begin = (num_rows - count) * (count % 3) / 2;
        ASSERT_TRUE(
            SameBits(Multiply(x, w, begin, begin + count, prompt), Rows(all, n, begin, begin + count)))
            << "n " << n << ", k " << k << ", prompt " << prompt << ", rows " << begin << " to "
            << begin + count;
      }
    }
  }
}

TEST_P(MatMulTest, ARowHasTheSameBitsAmongManyRows) {
  if (on_cuda()) GTEST_SKIP() << "more than 64 rows are a library's there";
  constexpr int kRows = 1100, kColumns = 256, kDepth = 256;
  Random random(3);
  const Weights w = MakeWeights(DType::kBF16, kColumns, kDepth, random);
  const ActivationArray x = Activations(random.Normals(kRows * kDepth));
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
  const ActivationArray x = Activations(random.Normals(kRows * kDepth));
  const std::vector<float> mixed = Multiply(x, kDepth, w, 0, kRows, kPrompt, DType::kF32, kColumns);
  EXPECT_TRUE(SameBits(Rows(mixed, kColumns, 0, kPrompt), Multiply(x, w, 0, kPrompt, true)));
  EXPECT_TRUE(SameBits(Rows(mixed, kColumns, kPrompt, kRows), Multiply(x, w, kPrompt, kRows, false)));
}

TEST_P(MatMulTest, ThreadsDoNotChangeBits) {
  if (on_cuda()) GTEST_SKIP() << "a device has no such threads";
  constexpr int kRows = 70, kColumns = 777, kDepth = 300;
  Random random(5);
  const Weights w = MakeWeights(DType::kBF16, kColumns, kDepth, random);
  const ActivationArray x = Activations(random.Normals(kRows * kDepth));
  for (const bool prompt : {true, false}) {
    const std::vector<float> one = Multiply(x, w, 0, kRows, prompt, 1);
    for (const int num_threads : {2, 3}) {
      EXPECT_TRUE(SameBits(Multiply(x, w, 0, kRows, prompt, num_threads), one)) << num_threads << " threads";
    }
  }
}

// Two products back to back, the second of what the first wrote: the second may not read early.
TEST_P(MatMulTest, AProductSeesTheOneBefore) {
  constexpr int kWidth = 1024;
  Random random(7);
  const Weights w = MakeWeights(DType::kBF16, kWidth, kWidth, random);
  const DType type = backend().activation_type();
  for (const int num_rows : {1, 32, 64}) {
    ActivationArray ends[] = {Activations(random.Normals(num_rows * kWidth)),
                              PoisonedActivations(num_rows * kWidth)};
    std::vector<std::vector<float>> step_by_step;
    const auto multiply = [&](int from) {
      backend().MatMul({.x = ends[from].data(),
                        .x_stride = kWidth,
                        .w = w.matrix,
                        .num_rows = num_rows,
                        .num_prompt_rows = 0,
                        .y = ends[1 - from].data(),
                        .y_type = type,
                        .y_stride = kWidth},
                       stream());
    };
    constexpr int kProducts = 6;
    const ActivationArray copy = Activations(ends[0].values());
    for (int i = 0; i < kProducts; ++i) {
      multiply(i % 2);
      ends[1 - i % 2].Read();  // waits
    }
    const std::vector<float> expected = ends[kProducts % 2].Read();
    backend().MatMul({.x = copy.data(),
                      .x_stride = kWidth,
                      .w = w.matrix,
                      .num_rows = num_rows,
                      .num_prompt_rows = 0,
                      .y = ends[1].data(),
                      .y_type = type,
                      .y_stride = kWidth},
                     stream());
    for (int i = 1; i < kProducts; ++i) multiply(i % 2);
    EXPECT_TRUE(SameBits(ends[kProducts % 2].Read(), expected)) << num_rows << " rows";
  }
}

TEST_P(MatMulTest, NoRowsWriteNothing) {
  Random random(6);
  const Weights w = MakeWeights(DType::kBF16, 16, 16, random);
  const ActivationArray x = PoisonedActivations(16);
  const DeviceArray<float> y = Poisoned<float>(16);
  backend().MatMul({.x = x.data(),
                    .x_stride = 16,
                    .w = w.matrix,
                    .num_rows = 0,
                    .num_prompt_rows = 0,
                    .y = y.data(),
                    .y_type = DType::kF32,
                    .y_stride = 16},
                   stream());
  for (const float value : y.Read()) EXPECT_TRUE(IsPoison(value));
}

YOIO_TEST_ON_BACKENDS(MatMulTest);

}  // namespace
}  // namespace yoio::test
