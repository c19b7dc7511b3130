// Matrix products of kernels_bench.
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/parts.h"

namespace yoio::bench {
namespace {

using kernels::BFloat16;
using kernels::Buffer;
using kernels::DType;
using kernels::Matrix;

struct Product {
  int n = 0, k = 0;
  int times = 0;  // in one decode step
  bool gated = false;
  bool logits = false;

  int64_t size() const { return int64_t{n} * k; }
  double bytes() const { return static_cast<double>(size()) * sizeof(BFloat16); }
};

// Products of one shape stand once, with the number of times that a decode step runs them.
std::vector<Product> ProductsOf(const ModelConfig& config) {
  const int hidden = config.hidden_size, ffn = config.intermediate_size;
  const int q = config.num_attention_heads * config.head_dim,
            kv = config.num_key_value_heads * config.head_dim;
  const int self = config.num_self_decoder_layers, layers = config.num_hidden_layers;
  std::vector<Product> all = {{q + 2 * kv, hidden, self},
                              {q, hidden, layers - self},
                              {hidden, q, layers},
                              {2 * ffn, hidden, layers, /*gated=*/true},
                              {hidden, ffn, layers},
                              {2 * kv, hidden, 1},
                              {config.vocab_size, hidden, 1, false, /*logits=*/true}};
  if (config.index_topk > 0) all.push_back({config.index_head_dim, hidden, 2});  // its query and its key
  std::vector<Product> merged;
  for (const Product& product : all) {
    bool found = false;
    for (Product& other : merged) {
      if (other.n != product.n || other.k != product.k || other.gated != product.gated) continue;
      other.times += product.times;
      found = true;
    }
    if (!found && product.times > 0) merged.push_back(product);
  }
  return merged;
}

// One product on one of several copies of its weights.
class ProductBench {
 public:
  ProductBench(Lab& lab, const Product& product, int max_rows)
      : lab_(lab),
        product_(product),
        sets_(lab.SetsBeyondCache(static_cast<size_t>(product.bytes()))),
        weights_(lab.NoiseWeights(product.size() * sets_)),
        x_(lab.Noise(static_cast<size_t>(max_rows) * product.k)),
        y_(lab.Allocate(static_cast<size_t>(max_rows) * product.n * sizeof(float))) {
    if (product.gated) gated_ = lab.Noise(static_cast<size_t>(max_rows) * product.n / 2);
  }

  double Seconds(int rows, int prompt_rows) {
    return lab_.SecondsPerCall(sets_, [&](int set) {
      const Matrix w{weights_.As<BFloat16>() + product_.size() * set, DType::kBF16, product_.n, product_.k};
      if (product_.gated) {
        lab_.backend().GateUp({.x = lab_.At(x_),
                               .w = w,
                               .num_rows = rows,
                               .num_prompt_rows = prompt_rows,
                               .scratch = lab_.At(y_),
                               .out = lab_.At(gated_)},
                              lab_.stream());
        return;
      }
      lab_.backend().MatMul({.x = lab_.At(x_),
                             .x_stride = product_.k,
                             .w = w,
                             .num_rows = rows,
                             .num_prompt_rows = prompt_rows,
                             .y = y_.data(),
                             .y_type = product_.logits ? DType::kF32 : lab_.backend().activation_type(),
                             .y_stride = product_.n},
                            lab_.stream());
    });
  }

 private:
  Lab& lab_;
  const Product product_;
  const int sets_;
  const Buffer weights_, x_, y_;
  Buffer gated_;
};

std::string NameOf(const Product& product) {
  return absl::StrCat(product.gated ? "gate-up/" : "mat-mul/", product.n, "x", product.k);
}

}  // namespace

void MeasureSkinnyProducts(Lab& lab, const ModelShape& shape, Report& report) {
  const std::vector<int> batches = {1, 8, 32};
  std::vector<double> step_seconds(batches.size());
  double step_bytes = 0;
  for (const Product& product : ProductsOf(shape.config)) {
    ProductBench bench(lab, product, batches.back());
    step_bytes += product.times * product.bytes();
    for (size_t i = 0; i < batches.size(); ++i) {
      const double seconds = bench.Seconds(batches[i], /*prompt_rows=*/0);
      step_seconds[i] += product.times * seconds;
      lab.AddTime(report, absl::StrCat(NameOf(product), "/generated/", batches[i]), seconds, product.bytes(),
                  2.0 * static_cast<double>(product.size()) * batches[i]);
    }
  }
  for (size_t i = 0; i < batches.size(); ++i) {
    lab.AddTime(report, absl::StrCat("mat-mul-step/", shape.name, "/generated/", batches[i]), step_seconds[i],
                step_bytes, step_bytes * batches[i]);
  }
}

void MeasurePromptProducts(Lab& lab, const ModelShape& shape, Report& report) {
  const std::vector<int> chunks =
      lab.on_gpu() ? std::vector<int>{512, 2048, 8192} : std::vector<int>{16, 64, 512};
  const double scale = lab.on_gpu() ? 1e-12 : 1e-9;
  const std::string unit = lab.on_gpu() ? "TFLOP/s" : "GFLOP/s";
  std::vector<double> seconds(chunks.size());
  double layer = 0;  // products with one row, of one self-decoder layer
  for (const Product& product : ProductsOf(shape.config)) {
    if (product.times < shape.config.num_self_decoder_layers) continue;
    ProductBench bench(lab, product, chunks.back());
    layer += 2.0 * static_cast<double>(product.size());
    for (size_t i = 0; i < chunks.size(); ++i) {
      const double time = bench.Seconds(chunks[i], /*prompt_rows=*/chunks[i]);
      seconds[i] += time;
      report.Add({absl::StrCat(NameOf(product), "-rate/prompt/", chunks[i]),
                  2.0 * static_cast<double>(product.size()) * chunks[i] / time * scale, unit,
                  lab.rate() * scale});
    }
  }
  for (size_t i = 0; i < chunks.size(); ++i) {
    report.Add({absl::StrCat("mat-mul-layers/", shape.name, "/prompt/", chunks[i]),
                layer * chunks[i] / seconds[i] * scale, unit, lab.rate() * scale});
  }
}

}  // namespace yoio::bench
