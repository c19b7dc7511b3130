// A GPU's sampler against a CPU's: the same tokens and the same log-probabilities, bit by bit.
#include <vector>

#include "engine/model/activations.h"
#include "engine/sampler.h"
#include "gtest/gtest.h"
#include "tests/support/one_slot_sampler.h"
#include "tests/support/random.h"
#include "tests/support/random_sampling.h"

namespace yoio {
namespace {

using test::Random;
using test::SamplerRunner;

TEST(SamplerDeviceTest, DrawsAndScoresAsACpuDoes) {
  if (!kernels::MakeBackend(kernels::DeviceKind::kCuda, 0).ok()) GTEST_SKIP() << "no GPU";
  constexpr int kSlots = 40, kSteps = 25;
  for (const int vocab : {1000, 50257}) {
    Random random(vocab);
    SamplerRunner cpu(vocab, kSlots, 64), gpu(vocab, kSlots, 64, kernels::DeviceKind::kCuda);
    for (int step = 0; step < kSteps; ++step) {
      SCOPED_TRACE(testing::Message() << "vocabulary " << vocab << ", step " << step);
      const StepPlan plan = test::RandomStep(random, step, vocab, kSlots);
      const std::vector<float> logits = random.Normals(size_t{kLogitsTile} * vocab, 4.0f);
      test::ExpectEqual(gpu.Run(plan, logits, kLogitsTile), cpu.Run(plan, logits, kLogitsTile));
    }
  }
}

}  // namespace
}  // namespace yoio
