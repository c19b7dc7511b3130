// config.json and generation_config.json of a checkpoint directory.
#ifndef YOIO_ENGINE_CHECKPOINT_CONFIG_H_
#define YOIO_ENGINE_CHECKPOINT_CONFIG_H_

#include <string>

#include "absl/status/statusor.h"
#include "engine/model/plan.h"
#include "engine/request.h"

namespace yoio {

// Reads DIR/config.json, merges the JSON file `override_path` over it when not empty, checks every key and
// builds the plan. INVALID_ARGUMENT names the file, the key and what was expected; NOT_FOUND names the
// missing file.
absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& dir, const std::string& override_path);

// As ReadModelConfig, from JSON text. `origin` names it in errors.
absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view json, const std::string& origin);

// Sampling defaults of DIR/generation_config.json (temperature, top_p, top_k, min_p, repetition_penalty);
// those of SamplingParams when the file or a key is absent. `do_sample: false` means temperature 0.
absl::StatusOr<SamplingParams> ReadSamplingDefaults(const std::string& dir);

}  // namespace yoio

#endif  // YOIO_ENGINE_CHECKPOINT_CONFIG_H_
