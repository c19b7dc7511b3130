// A model as data: what is stored, what is indexed, and what each layer reads. Three arrays that name each
// other by index, and one forward pass that walks them (engine/model/model.cc).
#ifndef YOIO_ENGINE_MODEL_PLAN_H_
#define YOIO_ENGINE_MODEL_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

namespace yoio {

// Where a store's keys and values are computed from.
enum class Source {
  kOwn,     // the writing layer's normed input, before its attention
  kMemory,  // the residual after the writing layer, through the store's own norm
};

// One set of cached keys and values.
struct Store {
  int layer;  // which layer writes it
  Source source;
  int kv_heads;
  int head_dim;
  bool qk_norm;  // RMSNorm per head on the keys (and on the queries of its readers)
  bool rope;     // rotary position on keys and queries
  int window;    // tokens a reader may look back, the current one included; 0 = unlimited
};

// One selection of cached tokens per row, shared by every layer that names it.
struct Indexer {
  int store;  // the store whose positions it selects; query and key come from that store's memory
  int dim;
  int top_k;
};

// Which rows of a step run a layer.
enum class Rows {
  kAll,     // every scheduled token
  kOutput,  // those whose logits somebody needs
};

struct Layer {
  int store;         // read by this layer's attention
  int indexer = -1;  // -1: attends to everything in the store
  Rows rows;
};

struct ModelPlan {
  std::vector<Store> stores;
  std::vector<Indexer> indexers;
  std::vector<Layer> layers;
};

// config.json, checked. Names follow that file (docs/architecture.md, "Checkpoints").
struct ModelConfig {
  std::string model_type;
  int hidden_size = 0;
  int intermediate_size = 0;
  int num_hidden_layers = 0;
  int num_attention_heads = 0;
  int num_key_value_heads = 0;
  int head_dim = 0;
  int vocab_size = 0;
  int max_position_embeddings = 0;
  float rms_norm_eps = 0;
  double rope_theta = 0;
  bool tie_word_embeddings = false;
  std::vector<int32_t> eos_token_ids;
  int num_self_decoder_layers = 0;
  int sliding_window = 0;
  bool qk_norm = false;
  int index_head_dim = 0;
  int index_topk = 0;  // 0: dense YOCO

  ModelPlan plan;  // made from the fields above
};

}  // namespace yoio

#endif  // YOIO_ENGINE_MODEL_PLAN_H_
