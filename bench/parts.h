// The parts of kernels_bench. Each adds its rows for one model shape; names are what/shape/context/batch, and
// `generated` or `prompt` stands for the context where there is none.
#ifndef YOIO_BENCH_PARTS_H_
#define YOIO_BENCH_PARTS_H_

#include <string>

#include "bench/lab.h"
#include "bench/report.h"
#include "engine/model/plan.h"

namespace yoio::bench {

struct ModelShape {
  std::string name;  // "clsa-4b"
  ModelConfig config;

  // Values of one cached token: K and V of every head.
  int64_t token_values() const { return int64_t{config.num_key_value_heads} * 2 * config.head_dim; }
};

// Every matrix of the model with few rows, as decode steps multiply them: bound by reading the weights.
void MeasureSkinnyProducts(Lab& lab, const ModelShape& shape, Report& report);
// A layer's matrices with many rows: bound by arithmetic.
void MeasurePromptProducts(Lab& lab, const ModelShape& shape, Report& report);

// Attention over window rings of generated rows, and of one prompt chunk.
void MeasureWindowAttention(Lab& lab, const ModelShape& shape, Report& report);
// Attention over whole paged caches.
void MeasureDenseAttention(Lab& lab, const ModelShape& shape, Report& report);
// Attention over the selected tokens of paged caches.
void MeasureSparseAttention(Lab& lab, const ModelShape& shape, Report& report);

// Index scores over paged caches.
void MeasureIndexScores(Lab& lab, const ModelShape& shape, Report& report);
// Exact top-k of scores that lie in the cache, as they do in a step, and of the distributions that selection
// by radix likes least.
void MeasureTopK(Lab& lab, const ModelShape& shape, Report& report);

}  // namespace yoio::bench

#endif  // YOIO_BENCH_PARTS_H_
