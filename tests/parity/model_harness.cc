#include "tests/parity/model_harness.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"
#include "engine/checkpoint/config.h"

namespace yoio::test {

absl::StatusOr<std::unique_ptr<ModelHarness>> ModelHarness::Create(const HarnessOptions& options) {
  auto harness = std::unique_ptr<ModelHarness>(new ModelHarness(options));
  const std::string dense = std::string(YOIO_SOURCE_DIR) + "/tests/parity/dense.json";
  YOIO_ASSIGN_OR_RETURN(harness->config_, ReadModelConfig(options.dir, options.dense ? dense : ""));
  YOIO_ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(options.dir));
  YOIO_RETURN_IF_ERROR(harness->Meet());
  harness->tables_.resize(options.max_sequences);
  harness->blocks_sent_.resize(options.max_sequences);
  harness->blocks_kept_.assign(options.max_sequences, 0);
  harness->ranks_.resize(options.world);
  YOIO_RETURN_IF_ERROR(harness->OnRanks([&](int rank) { return harness->Load(*checkpoint, rank); }));
  return harness;
}

ModelHarness::~ModelHarness() {
  const auto forget = [this](int rank) {
    if (!ranks_.empty()) ranks_[rank] = Rank();
    return absl::OkStatus();
  };
  threads_.Run(forget).IgnoreError();
}

absl::Status ModelHarness::Meet() {
  std::vector<kernels::Backend*> backends;
  for (int rank = 0; rank < options_.world; ++rank) {
    const int device = options_.device == kernels::DeviceKind::kCuda ? rank : 0;
    YOIO_ASSIGN_OR_RETURN(auto backend, kernels::MakeBackend(options_.device, device));
    backends.push_back(backend.get());
    backends_.push_back(std::move(backend));
  }
  GroupOptions group{.kind = options_.communicator, .world = options_.world, .num_ranks = options_.world};
  std::unique_ptr<Rendezvous> rendezvous;
  if (group.kind != CommunicatorKind::kLocal) {
    YOIO_ASSIGN_OR_RETURN(rendezvous, MakeRendezvous(group.kind, /*host=*/""));
    group.ticket = rendezvous->ticket();
    group.rendezvous = rendezvous.get();
  }
  YOIO_ASSIGN_OR_RETURN(comms_, MakeCommunicators(group, backends));
  return absl::OkStatus();
}

absl::Status ModelHarness::Load(const Checkpoint& checkpoint, int number) {
  Rank& rank = ranks_[number];
  kernels::Backend& backend = *backends_[number];
  const int blocks = (options_.max_tokens + kernels::kBlockTokens - 1) / kernels::kBlockTokens;
  const CacheGeometry geometry{.num_blocks = blocks * options_.max_sequences,
                               .max_sequences = options_.max_sequences,
                               .num_snapshots = options_.num_snapshots,
                               .host_blocks = options_.swaps ? blocks * options_.max_sequences : 0,
                               .host_rings = options_.swaps ? options_.max_sequences : 0,
                               .max_blocks_per_sequence = blocks,
                               .ring_tokens = CacheGeometry::RingTokens(config_.plan)};
  YOIO_ASSIGN_OR_RETURN(rank.shard, Shard::Make(config_, number, options_.world, options_.index_by_rows));
  YOIO_ASSIGN_OR_RETURN(rank.stream, backend.NewStream(options_.threads));
  YOIO_ASSIGN_OR_RETURN(rank.weights,
                        Weights::Load(config_, rank.shard, checkpoint, backend, *rank.stream, nullptr));
  YOIO_ASSIGN_OR_RETURN(rank.cache, KvCache::Create(config_, rank.shard, geometry, backend));
  rank.model = std::make_unique<Model>(ModelParts{.config = &config_,
                                                  .shard = rank.shard,
                                                  .weights = rank.weights.get(),
                                                  .cache = rank.cache.get(),
                                                  .backend = &backend,
                                                  .comm = comms_[number].get(),
                                                  .stream = rank.stream.get(),
                                                  .previous_samples = nullptr,
                                                  .min_tiled_tokens = options_.min_tiled_tokens},
                                       StepLimits{options_.max_step_tokens, options_.max_output_rows});
  return rank.model->Prepare();
}

// The first error ends the group, so that no rank waits for one that has left.
absl::Status ModelHarness::OnRanks(const std::function<absl::Status(int rank)>& body) {
  return threads_.Run([&](int rank) {
    const absl::Status status = body(rank);
    if (!status.ok()) comms_[rank]->Abort(status);
    return status;
  });
}

StepPlan ModelHarness::MakePlan(const std::vector<Piece>& pieces) {
  StepPlan plan = std::exchange(next_, {});
  plan.step = step_++;
  for (const Piece& piece : pieces) {
    const auto count = static_cast<int32_t>(piece.ids.size());
    const auto begin = static_cast<int32_t>(plan.token_ids.size());
    const int32_t needed = (piece.start + count + kernels::kBlockTokens - 1) / kernels::kBlockTokens;
    std::vector<int32_t>& table = tables_[piece.slot];
    while (static_cast<int32_t>(table.size()) < needed) {
      table.push_back(BlockOf(static_cast<int32_t>(table.size()), piece.slot));
    }
    int32_t& sent = blocks_sent_[piece.slot];
    StepSequence sequence{.slot = piece.slot,
                          .token_begin = begin,
                          .token_count = count,
                          .start_position = piece.start,
                          .new_block_begin = static_cast<int32_t>(plan.new_blocks.size()),
                          .new_block_count = std::max(0, needed - sent),
                          .global_from = piece.global_from};
    for (; sent < needed; ++sent) plan.new_blocks.push_back(table[sent]);
    plan.sequences.push_back(sequence);
    for (int32_t i = 0; i < count; ++i) plan.positions.push_back(piece.start + i);
    plan.token_ids.insert(plan.token_ids.end(), piece.ids.begin(), piece.ids.end());
    for (const int32_t offset : piece.outputs) plan.output_tokens.push_back(begin + offset);
    if (!piece.generated) plan.num_prompt_tokens = static_cast<int32_t>(plan.token_ids.size());
  }
  return plan;
}

void ModelHarness::Admit(int32_t slot, int32_t from, int32_t shared_blocks) {
  next_.admitted.push_back(
      {.slot = slot, .sampling = {}, .stop_ids = {}, .prompt_ids = {}, .output_ids = {}});
  tables_[slot] = {tables_[from].begin(), tables_[from].begin() + shared_blocks};
  blocks_sent_[slot] = 0;
}

void ModelHarness::SaveRing(int32_t slot, int32_t snapshot) {
  next_.ring_saves.push_back({slot, options_.max_sequences + snapshot});
}

void ModelHarness::RestoreRing(int32_t snapshot, int32_t slot) {
  next_.ring_copies.push_back({options_.max_sequences + snapshot, slot});
}

void ModelHarness::PoisonRing(int32_t slot) {
  const int rings = options_.max_sequences + options_.num_snapshots;
  const absl::Status filled = OnRanks([&](int number) {
    const Rank& rank = ranks_[number];
    for (size_t store = 0; store < config_.plan.stores.size(); ++store) {
      if (config_.plan.stores[store].window == 0) continue;
      const int64_t bytes = rank.cache->store_bytes(static_cast<int>(store)) / rings;
      char* data = reinterpret_cast<char*>(rank.cache->store(static_cast<int>(store)));
      backends_[number]->Fill(data + slot * bytes, 0xff, bytes, *rank.stream);
    }
    return backends_[number]->Synchronize(*rank.stream);
  });
  YOIO_CHECK(filled.ok()) << filled.message();
}

void ModelHarness::Release(int32_t slot) {
  next_.released_slots.push_back(slot);
  tables_[slot].clear();
  blocks_sent_[slot] = 0;
}

void ModelHarness::SwapOut(int32_t slot, int32_t place) {
  blocks_kept_[place] = blocks_sent_[slot];
  for (int32_t i = 0; i < blocks_kept_[place]; ++i) {
    next_.swap_out_blocks.push_back({BlockOf(i, slot), BlockOf(i, place)});
  }
  next_.swap_out_rings.push_back({slot, place});
  Release(slot);
}

void ModelHarness::SwapIn(int32_t place, int32_t slot) {
  for (int32_t i = 0; i < blocks_kept_[place]; ++i) {
    next_.swap_in_blocks.push_back({BlockOf(i, place), BlockOf(i, slot)});
  }
  next_.swap_in_rings.push_back({place, slot});
}

absl::StatusOr<StepOutput> ModelHarness::Run(const std::vector<Piece>& pieces) {
  const StepPlan plan = MakePlan(pieces);
  StepOutput output;
  output.logits.resize(plan.output_tokens.size() * config_.vocab_size);
  YOIO_RETURN_IF_ERROR(OnRanks([&](int rank) { return RunRank(plan, rank, output); }));
  if (config_.plan.indexers.empty() || plan.output_tokens.empty()) return output;
  YOIO_RETURN_IF_ERROR(CompareIndexes());
  if (!options_.index_by_rows && plan.output_tokens.size() <= kIndexTile) {
    output.queries = ReadActivations(0, ranks_[0].model->last_index_queries(),
                                     plan.output_tokens.size() * config_.index_head_dim);
  }
  for (size_t row = 0; row < plan.output_tokens.size(); ++row) {
    output.positions.push_back(Positions(static_cast<int>(row)));
  }
  return output;
}

// Writes this rank's columns of `output.logits`.
absl::Status ModelHarness::RunRank(const StepPlan& plan, int number, StepOutput& output) {
  Rank& rank = ranks_[number];
  kernels::Backend& backend = *backends_[number];
  const Shard& shard = rank.shard;
  const auto sink = [&](int first_row, int num_rows, const float* logits) -> absl::Status {
    rank.logits.resize(static_cast<size_t>(num_rows) * shard.vocab_stride);
    backend.CopyToHost(rank.logits.data(), logits, rank.logits.size() * sizeof(float), *rank.stream);
    YOIO_RETURN_IF_ERROR(backend.Synchronize(*rank.stream));
    for (int row = 0; row < num_rows; ++row) {
      std::copy_n(rank.logits.begin() + int64_t{row} * shard.vocab_stride, shard.vocab,
                  output.logits.begin() + int64_t{first_row + row} * config_.vocab_size + shard.vocab_begin);
    }
    return absl::OkStatus();
  };
  YOIO_RETURN_IF_ERROR(rank.model->Forward(plan, sink));
  if (!config_.plan.indexers.empty()) {
    YOIO_RETURN_IF_ERROR(ReadIndex(static_cast<int>(plan.output_tokens.size()), number));
  }
  return backend.Synchronize(*rank.stream);  // only then may the next step be loaded
}

absl::Status ModelHarness::ReadIndex(int num_rows, int number) {
  Rank& rank = ranks_[number];
  const IndexSet& index = rank.model->last_index();
  rank.counts.resize(num_rows);
  rank.slots.resize(static_cast<size_t>(num_rows) * index.top_k);
  const auto read = [&](std::vector<int32_t>& to, const int32_t* from) {
    backends_[number]->CopyToHost(to.data(), from, to.size() * sizeof(int32_t), *rank.stream);
  };
  read(rank.counts, index.count);
  read(rank.slots, index.slots);
  return backends_[number]->Synchronize(*rank.stream);
}

std::vector<float> ModelHarness::ReadActivations(int number, const kernels::Activation* from, size_t count) {
  kernels::Backend& backend = *backends_[number];
  std::vector<float> values(count);
  const auto read = [&](void* to, size_t element_bytes) {
    return OnRanks([&](int rank) -> absl::Status {
      if (rank != number) return absl::OkStatus();
      backend.CopyToHost(to, from, count * element_bytes, *ranks_[number].stream);
      return backend.Synchronize(*ranks_[number].stream);
    });
  };
  if (backend.activation_type() == kernels::DType::kF32) {
    YOIO_CHECK(read(values.data(), sizeof(float)).ok());
    return values;
  }
  std::vector<kernels::BFloat16> halves(count);
  YOIO_CHECK(read(halves.data(), sizeof(kernels::BFloat16)).ok());
  std::transform(halves.begin(), halves.end(), values.begin(),
                 [](kernels::BFloat16 half) { return kernels::ToFloat(half); });
  return values;
}

std::vector<float> ModelHarness::IndexKeys(int32_t slot, int length) {
  const int dim = config_.index_head_dim;
  const size_t tokens = ranks_[0].cache->index_key_bytes(0) / SizeOf(backends_[0]->activation_type()) / dim;
  const std::vector<float> cache = ReadActivations(0, ranks_[0].cache->index_keys(0), tokens * dim);
  std::vector<float> keys;
  for (int position = 0; position < length; ++position) {
    const int block = BlockOf(position / kernels::kBlockTokens, slot);
    const int64_t place = int64_t{block} * kernels::kBlockTokens + position % kernels::kBlockTokens;
    keys.insert(keys.end(), cache.begin() + place * dim, cache.begin() + (place + 1) * dim);
  }
  return keys;
}

// What lies past a count is never read and may be anything.
absl::Status ModelHarness::CompareIndexes() const {
  const Rank& first = ranks_[0];
  const int top_k = config_.index_topk;
  for (const Rank& other : ranks_) {
    for (size_t row = 0; row < first.counts.size(); ++row) {
      const auto begin = static_cast<std::ptrdiff_t>(row * top_k);
      if (other.counts[row] == first.counts[row] &&
          std::equal(first.slots.begin() + begin, first.slots.begin() + begin + first.counts[row],
                     other.slots.begin() + begin)) {
        continue;
      }
      return absl::InternalError(absl::StrCat("step ", step_ - 1, ", row ", row, ": the index of rank ",
                                              other.shard.rank, " is another one"));
    }
  }
  return absl::OkStatus();
}

// Of the tokens that lie at the selected slots, as MakePlan gives blocks out.
std::vector<int32_t> ModelHarness::Positions(int row) const {
  const Rank& rank = ranks_[0];
  const int32_t* slots = rank.slots.data() + static_cast<int64_t>(row) * config_.index_topk;
  std::vector<int32_t> positions;
  for (int i = 0; i < rank.counts[row]; ++i) {
    const int32_t block = slots[i] / kernels::kBlockTokens / options_.max_sequences;
    positions.push_back(block * kernels::kBlockTokens + slots[i] % kernels::kBlockTokens);
  }
  return positions;
}

}  // namespace yoio::test
