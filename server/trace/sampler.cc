#include "server/trace/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>

namespace yoio {
namespace {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;  // SplitMix64's step

// SplitMix64's scrambler: one to one, so that ids of one source never meet.
uint64_t Scramble(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

uint64_t RandomBits() {
  std::random_device device;
  return static_cast<uint64_t>(device()) << 32 | device();
}

// One of SplitMix64's numbers as eight bytes, in the machine's own order: which is first means nothing.
std::array<uint8_t, 8> ScrambledBytes(uint64_t state) {
  return std::bit_cast<std::array<uint8_t, 8>>(Scramble(state));
}

uint64_t BigEndian(const uint8_t* bytes) {
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value = value << 8 | bytes[i];
  return value;
}

}  // namespace

IdSource::IdSource() : start_{RandomBits(), RandomBits(), RandomBits()} {}

TraceId IdSource::NewTrace() {
  const uint64_t step = kGolden * drawn_.fetch_add(1, std::memory_order_relaxed);
  TraceId id;
  std::ranges::copy(ScrambledBytes(start_[0] + step), id.trace.begin());
  std::ranges::copy(ScrambledBytes(start_[1] + step), id.trace.begin() + 8);
  id.span = ScrambledBytes(start_[2] + step);
  return id;
}

std::array<uint8_t, 8> IdSource::NewSpan() {
  return ScrambledBytes(start_[2] + kGolden * drawn_.fetch_add(1, std::memory_order_relaxed));
}

bool TenantBudget::Take(const std::string& tenant, TimePoint now) {
  MutexLock lock(mutex_);
  auto found = buckets_.find(tenant);
  if (found == buckets_.end()) {
    if (buckets_.size() >= kMaxTenants) Forget(now);
    const std::string shared;  // no tenant's name
    found = buckets_
                .try_emplace(buckets_.size() < kMaxTenants ? tenant : shared,
                             Bucket{.tokens = Capacity(), .filled = now})
                .first;
  }
  Bucket& bucket = found->second;
  if (now > bucket.filled) {
    bucket.tokens = std::min(Capacity(), bucket.tokens + rate_ * ToSeconds(now - bucket.filled));
    bucket.filled = now;
  }
  if (bucket.tokens < 1) return false;
  bucket.tokens -= 1;
  return true;
}

void TenantBudget::Forget(TimePoint now) {
  absl::erase_if(buckets_, [&](const auto& entry) {
    const Bucket& bucket = entry.second;
    return bucket.tokens + rate_ * ToSeconds(now - bucket.filled) >= Capacity();
  });
}

TraceSampler::TraceSampler(const SamplerOptions& options, double tenant_rate)
    : options_(options),
      sampled_below_(options.ratio < 1 ? static_cast<uint64_t>(std::ldexp(options.ratio, 64)) : 0),
      budget_(tenant_rate) {}

bool TraceSampler::Sample(const TraceId& id, bool sampled, const std::string& tenant) {
  if (!options_.parent_based) return SampleRoot(id);
  return sampled && budget_.Take(tenant, Clock::now());
}

bool TraceSampler::SampleRoot(const TraceId& id) const {
  return options_.ratio >= 1 || BigEndian(id.trace.data() + 8) < sampled_below_;
}

}  // namespace yoio
