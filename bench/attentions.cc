// Attentions of kernels_bench.
#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/parts.h"

namespace yoio::bench {
namespace {

using kernels::Buffer;
using kernels::kBlockTokens;
using kernels::PagedRow;
using kernels::SequenceSpan;

constexpr int kWindowStart = 8192;  // first position of what is measured: windows are full

std::vector<int> ContextsOf(const Lab& lab) {
  return lab.on_gpu() ? std::vector<int>{131072} : std::vector<int>{65536, 131072};
}

// Queries of `rows` rows, and where their results go.
struct Queries {
  Queries(Lab& lab, const ModelConfig& config, int rows)
      : stride(int64_t{config.num_attention_heads} * config.head_dim),
        q(lab.Noise(rows * stride)),
        out(lab.Noise(rows * stride)) {}

  const int64_t stride;
  const Buffer q, out;
};

double AttentionFlops(const ModelConfig& config, double rows_times_tokens) {
  return 4.0 * rows_times_tokens * config.num_attention_heads * config.head_dim;
}

// Rows of q, k and v side by side, as the product leaves them, and the rings behind them.
class WindowBench {
 public:
  WindowBench(Lab& lab, const ModelShape& shape, int num_rows, int sequences)
      : lab_(lab),
        config_(shape.config),
        num_rows_(num_rows),
        ring_tokens_((config_.sliding_window + kBlockTokens - 1) / kBlockTokens * kBlockTokens +
                     kBlockTokens),
        ring_values_(sequences * ring_tokens_ * shape.token_values()),
        sets_(lab.SetsBeyondCache(ring_values_ * lab.activation_bytes())),
        stride_(int64_t{config_.num_attention_heads + 2 * config_.num_key_value_heads} * config_.head_dim),
        rows_(lab.Noise(num_rows * stride_)),
        rings_(lab.Noise(ring_values_ * sets_)),
        out_(lab.Noise(num_rows * stride_)) {}

  double Seconds(const std::vector<SequenceSpan>& spans, const std::vector<PagedRow>& rows) {
    std::vector<int32_t> places;
    for (const PagedRow& row : rows) places.push_back((row.length - 1) % ring_tokens_);
    for (size_t i = 0; i < rows.size(); ++i) places[i] += rows[i].slot * ring_tokens_;
    const Buffer device_rows = lab_.Upload(rows), device_places = lab_.Upload(places);
    const int64_t q_values = int64_t{config_.num_attention_heads} * config_.head_dim;
    const int64_t k_values = int64_t{config_.num_key_value_heads} * config_.head_dim;
    return lab_.SecondsPerCall(sets_, [&](int set) {
      lab_.backend().WindowAttention({.q = lab_.At(rows_),
                                      .k = lab_.At(rows_, q_values),
                                      .v = lab_.At(rows_, q_values + k_values),
                                      .row_stride = stride_,
                                      .ring = lab_.At(rings_, ring_values_ * set),
                                      .ring_slots = device_places.As<int32_t>(),
                                      .ring_tokens = ring_tokens_,
                                      .window = config_.sliding_window,
                                      .spans = spans.empty() ? nullptr : spans.data(),
                                      .num_spans = static_cast<int>(spans.size()),
                                      .rows = device_rows.As<PagedRow>(),
                                      .num_rows = num_rows_,
                                      .num_prompt_rows = num_rows_,
                                      .heads = config_.num_attention_heads,
                                      .kv_heads = config_.num_key_value_heads,
                                      .head_dim = config_.head_dim,
                                      .out = lab_.At(out_)},
                                     lab_.stream());
    });
  }

 private:
  Lab& lab_;
  const ModelConfig& config_;
  const int num_rows_;
  const int ring_tokens_;
  const int64_t ring_values_;
  const int sets_;
  const int64_t stride_;
  const Buffer rows_, rings_, out_;
};

// Distinct and sorted, as top-k emits them.
std::vector<int32_t> RandomSlots(test::Random& random, int context, int count) {
  std::vector<int32_t> slots;
  while (slots.size() < static_cast<size_t>(count)) {
    while (slots.size() < static_cast<size_t>(count)) slots.push_back(random.Below(context));
    std::sort(slots.begin(), slots.end());
    slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
  }
  return slots;
}

}  // namespace

void MeasureWindowAttention(Lab& lab, const ModelShape& shape, Report& report) {
  const ModelConfig& config = shape.config;
  for (const int batch : {1, 8, 32}) {
    std::vector<PagedRow> rows;
    for (int i = 0; i < batch; ++i) rows.push_back({i, kWindowStart + 7 * i});
    const double seconds = WindowBench(lab, shape, batch, batch).Seconds({}, rows);
    const double tokens = static_cast<double>(batch) * config.sliding_window;
    lab.AddTime(report, absl::StrCat("window-attention/", shape.name, "/", kWindowStart, "/", batch), seconds,
                tokens * static_cast<double>(shape.token_values() * lab.activation_bytes()),
                AttentionFlops(config, tokens));
  }
  const std::vector<int> chunks = lab.on_gpu() ? std::vector<int>{2048, 8192} : std::vector<int>{512};
  const double scale = lab.on_gpu() ? 1e-12 : 1e-9;
  for (const int chunk : chunks) {
    std::vector<PagedRow> rows;
    for (int i = 0; i < chunk; ++i) rows.push_back({0, kWindowStart + i + 1});
    const double seconds = WindowBench(lab, shape, chunk, 1).Seconds({{0, chunk, kWindowStart, 0}}, rows);
    report.Add({absl::StrCat("window-attention-prompt/", shape.name, "/", kWindowStart, "/", chunk),
                AttentionFlops(config, static_cast<double>(chunk) * config.sliding_window) / seconds * scale,
                lab.on_gpu() ? "TFLOP/s" : "GFLOP/s", lab.rate() * scale});
  }
}

void MeasureDenseAttention(Lab& lab, const ModelShape& shape, Report& report) {
  const ModelConfig& config = shape.config;
  const std::vector<int> batches = lab.on_gpu() ? std::vector<int>{1, 8} : std::vector<int>{1};
  for (const int context : ContextsOf(lab)) {
    for (const int batch : batches) {
      const int max_blocks = context / kBlockTokens;
      const double tokens = static_cast<double>(batch) * context;
      const int64_t set_values = int64_t{batch} * context * shape.token_values();
      const int sets = lab.SetsBeyondCache(set_values * lab.activation_bytes());
      const Buffer cache = lab.Noise(set_values * sets);
      const Buffer tables = lab.Upload(lab.random().Permutation(batch * max_blocks));
      std::vector<PagedRow> rows;
      for (int i = 0; i < batch; ++i) rows.push_back({i, context});
      const Buffer device_rows = lab.Upload(rows);
      const Queries queries(lab, config, batch);
      const double seconds = lab.SecondsPerCall(sets, [&](int set) {
        lab.backend().DenseAttention({.q = lab.At(queries.q),
                                      .q_stride = queries.stride,
                                      .cache = lab.At(cache, set_values * set),
                                      .block_tables = tables.As<int32_t>(),
                                      .max_blocks = max_blocks,
                                      .rows = device_rows.As<PagedRow>(),
                                      .num_rows = batch,
                                      .heads = config.num_attention_heads,
                                      .kv_heads = config.num_key_value_heads,
                                      .head_dim = config.head_dim,
                                      .out = lab.At(queries.out)},
                                     lab.stream());
      });
      lab.AddTime(report,
                  absl::StrCat("dense-attention/", config.num_attention_heads, "q-",
                               config.num_key_value_heads, "kv-", config.head_dim, "/", context, "/", batch),
                  seconds, tokens * static_cast<double>(shape.token_values() * lab.activation_bytes()),
                  AttentionFlops(config, tokens));
    }
  }
}

void MeasureSparseAttention(Lab& lab, const ModelShape& shape, Report& report) {
  const ModelConfig& config = shape.config;
  if (config.index_topk == 0) return;
  const int context = ContextsOf(lab).back(), top_k = config.index_topk;
  const std::vector<int> batches = {1, 8, 32};
  // Every row has a cache of its own: as many pages are touched as in a step.
  const int sequences = lab.on_gpu() ? batches.back() : 1;
  const Buffer cache = lab.Noise(int64_t{sequences} * context * shape.token_values());
  for (const int batch : batches) {
    const double tokens = static_cast<double>(batch) * top_k;
    const double bytes = tokens * static_cast<double>(shape.token_values() * lab.activation_bytes());
    const int sets = std::min(64, lab.SetsBeyondCache(static_cast<size_t>(bytes)));
    std::vector<int32_t> slots;
    for (int i = 0; i < sets * batch; ++i) {
      for (const int32_t slot : RandomSlots(lab.random(), context, top_k))
        slots.push_back(i % sequences * context + slot);
    }
    const Buffer device_slots = lab.Upload(slots);
    const Buffer count = lab.Upload(std::vector<int32_t>(batch, top_k));
    const Queries queries(lab, config, batch);
    const double seconds = lab.SecondsPerCall(sets, [&](int set) {
      lab.backend().SparseAttention({.q = lab.At(queries.q),
                                     .q_stride = queries.stride,
                                     .cache = lab.At(cache),
                                     .slots = device_slots.As<int32_t>() + int64_t{set} * batch * top_k,
                                     .count = count.As<int32_t>(),
                                     .top_k = top_k,
                                     .num_rows = batch,
                                     .heads = config.num_attention_heads,
                                     .kv_heads = config.num_key_value_heads,
                                     .head_dim = config.head_dim,
                                     .out = lab.At(queries.out)},
                                    lab.stream());
    });
    lab.AddTime(report, absl::StrCat("sparse-attention/", shape.name, "/", context, "/", batch), seconds,
                bytes, AttentionFlops(config, tokens));
  }
}

}  // namespace yoio::bench
