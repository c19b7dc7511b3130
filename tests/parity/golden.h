// Cases that the PyTorch reference has computed (models/reference/make_goldens.py), and comparisons with
// them.
#ifndef YOIO_TESTS_PARITY_GOLDEN_H_
#define YOIO_TESTS_PARITY_GOLDEN_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/checkpoint/safetensors.h"
#include "tests/parity/model_harness.h"

namespace yoio::test {

// Everything is computed in float on both sides, in another order: errors grow with the square root of the
// number of roundings along the longest path, a few hundred here. Measured: 1.1e-6 on the random models.
inline constexpr double kRelativeError = 1e-5;

// The values of one tensor of `file`, which must be there.
template <typename T>
std::vector<T> Values(const Checkpoint& file, const char* name);

struct Golden {
  std::string dir;  // of the checkpoint
  std::unique_ptr<Checkpoint> file;
  std::vector<int32_t> tokens;           // [n]
  std::vector<int32_t> rows;             // ascending positions whose logits and index are known
  std::vector<int32_t> index_positions;  // [rows, top_k] ascending, -1 past the end
  std::vector<float> index_scores;       // [rows, n]
  std::vector<float> logits_sparse;      // [rows, vocab]
  std::vector<float> logits_dense;       // [rows, vocab]

  // `name` is a folder of tests/golden; the checkpoint lies in it, or in models/yoio-tiny for "tiny".
  explicit Golden(const std::string& name);

  // Tokens [begin, end) as one piece that asks for the logits of the golden rows among them.
  Piece Slice(int32_t slot, int32_t begin, int32_t end) const;
};

std::unique_ptr<ModelHarness> MakeHarness(const HarnessOptions& options);

// Runs the whole case in chunks; its last `generated` tokens one at a time, as if they had been drawn.
StepOutput RunInChunks(ModelHarness& harness, const Golden& golden, int chunk, int generated = 0);

// Within `relative_error` of the norm.
void ExpectLogits(const std::vector<float>& actual, const std::vector<float>& expected,
                  double relative_error = kRelativeError);

// Sets from different arithmetic may differ only where scores lie within `relative_error` of the k-th one, as
// a share of the largest.
void ExpectIndex(const Golden& golden, const std::vector<std::vector<int32_t>>& actual,
                 double relative_error = kRelativeError);

}  // namespace yoio::test

#endif  // YOIO_TESTS_PARITY_GOLDEN_H_
