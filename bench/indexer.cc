// The indexer's operations of kernels_bench.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/parts.h"

namespace yoio::bench {
namespace {

using kernels::Buffer;
using kernels::kBlockTokens;
using kernels::PagedRow;

using Distribution = std::vector<float> (*)(test::Random&, size_t);

std::vector<float> Normal(test::Random& random, size_t count) { return random.Normals(count); }

std::vector<float> Equal(test::Random&, size_t count) { return std::vector<float>(count, 0.75f); }

std::vector<float> Narrow(test::Random& random, size_t count) {
  std::vector<float> values = random.Normals(count, 1e-4f);
  for (float& value : values) value += 1.0f;
  return values;
}

// Nine in ten are exact zeros, and some of those are needed: fewer than top-k are positive.
std::vector<float> Zeros(test::Random& random, size_t count) {
  std::vector<float> values = random.Normals(count);
  for (float& value : values) value = random.Below(100) == 0 ? std::abs(value) : 0.0f;
  return values;
}

constexpr std::pair<const char*, Distribution> kWorst[] = {
    {"equal", Equal}, {"narrow", Narrow}, {"zeros", Zeros}};

// Rows of scores, selected again and again.
double TopKSeconds(Lab& lab, int top_k, int length, int rows, Distribution draw) {
  const int max_blocks = length / kBlockTokens;
  const Buffer scores = lab.Upload(draw(lab.random(), static_cast<size_t>(rows) * length));
  const Buffer tables = lab.Upload(lab.random().Permutation(rows * max_blocks));
  std::vector<PagedRow> paged;
  for (int i = 0; i < rows; ++i) paged.push_back({i, length});
  const Buffer device_rows = lab.Upload(paged);
  const Buffer positions = lab.Allocate(sizeof(int32_t) * rows * top_k);
  const Buffer slots = lab.Allocate(sizeof(int32_t) * rows * top_k);
  const Buffer count = lab.Allocate(sizeof(int32_t) * rows);
  return lab.SecondsPerCall(1, [&](int) {
    lab.backend().TopK({.scores = scores.As<float>(),
                        .score_stride = length,
                        .block_tables = tables.As<int32_t>(),
                        .max_blocks = max_blocks,
                        .rows = device_rows.As<PagedRow>(),
                        .num_rows = rows,
                        .top_k = top_k,
                        .positions = positions.As<int32_t>(),
                        .slots = slots.As<int32_t>(),
                        .count = count.As<int32_t>()},
                       lab.stream());
  });
}

// `rows` rows that read as many sequences, or one, as when a prompt is scored.
void AddIndexScores(Lab& lab, const ModelShape& shape, int context, int rows, int sequences, Report& report) {
  const int dim = shape.config.index_head_dim, max_blocks = context / kBlockTokens;
  const int64_t set_values = int64_t{sequences} * context * dim;
  const int sets = lab.SetsBeyondCache(set_values * lab.activation_bytes());
  const Buffer keys = lab.Noise(set_values * sets), q = lab.Noise(int64_t{rows} * dim);
  const Buffer tables = lab.Upload(lab.random().Permutation(sequences * max_blocks));
  std::vector<PagedRow> paged;
  for (int i = 0; i < rows; ++i) paged.push_back({i * sequences / rows, context});
  const Buffer device_rows = lab.Upload(paged);
  const Buffer scores = lab.Allocate(sizeof(float) * rows * context);
  const double seconds = lab.SecondsPerCall(sets, [&](int set) {
    lab.backend().IndexScores({.q = lab.At(q),
                               .keys = lab.At(keys, set_values * set),
                               .block_tables = tables.As<int32_t>(),
                               .max_blocks = max_blocks,
                               .rows = device_rows.As<PagedRow>(),
                               .num_rows = rows,
                               .dim = dim,
                               .scores = scores.As<float>(),
                               .score_stride = context},
                              lab.stream());
  });
  const std::string what = sequences == rows ? "index-scores/" : "index-scores-prompt/";
  lab.AddTime(report, absl::StrCat(what, shape.name, "/", context, "/", rows), seconds,
              static_cast<double>(set_values * lab.activation_bytes()), 2.0 * rows * context * dim);
}

}  // namespace

void MeasureIndexScores(Lab& lab, const ModelShape& shape, Report& report) {
  if (shape.config.index_topk == 0) return;
  const std::vector<int> contexts =
      lab.on_gpu() ? std::vector<int>{131072} : std::vector<int>{4096, 65536, 131072};
  const std::vector<int> batches = lab.on_gpu() ? std::vector<int>{1, 4, 8, 32} : std::vector<int>{1, 4};
  for (const int context : contexts) {
    for (const int batch : batches) AddIndexScores(lab, shape, context, batch, batch, report);
    if (!lab.on_gpu()) AddIndexScores(lab, shape, context, /*rows=*/64, /*sequences=*/1, report);
  }
}

void MeasureTopK(Lab& lab, const ModelShape& shape, Report& report) {
  const int top_k = shape.config.index_topk;
  if (top_k == 0) return;
  const std::vector<std::pair<int, int>> sizes =  // length, rows
      lab.on_gpu() ? std::vector<std::pair<int, int>>{{131072, 1}, {131072, 8}, {131072, 32}, {1048576, 1}}
                   : std::vector<std::pair<int, int>>{{65536, 1}, {131072, 1}, {131072, 4}};
  for (const auto& [length, rows] : sizes) {
    const std::string size = absl::StrCat("/", top_k, "/", length, "/", rows);
    if (report.Has("top-k" + size)) continue;
    const auto add = [&](const std::string& what, double seconds) {
      report.Add({what + size, seconds * 1e6, "us"});
    };
    const double normal = TopKSeconds(lab, top_k, length, rows, Normal);
    add("top-k", normal);
    double worst = 0;
    for (const auto& [name, draw] : kWorst) {
      const double seconds = TopKSeconds(lab, top_k, length, rows, draw);
      add(absl::StrCat("top-k-", name), seconds);
      worst = std::max(worst, seconds);
    }
    report.Add({"top-k-worst-over-normal" + size, worst / normal, "x", 0, /*is_cost=*/true});
  }
}

}  // namespace yoio::bench
