// The header of one safetensors file: what it says, checked against the file that it is in.
#ifndef YOIO_ENGINE_CHECKPOINT_SAFETENSORS_HEADER_H_
#define YOIO_ENGINE_CHECKPOINT_SAFETENSORS_HEADER_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/safetensors.h"

namespace yoio {

struct SafetensorsHeader {
  struct Tensor {
    std::string name;
    TensorView view;
  };

  std::string_view prefix;      // the length field and the JSON text
  std::vector<Tensor> tensors;  // in the order of their bytes
};

// `file` is the whole file and must outlive the result; `origin` names it in errors. DATA_LOSS if the file
// ends before what its header promises; INVALID_ARGUMENT naming tensor and field for everything else.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view file, const std::string& origin);

}  // namespace yoio

#endif  // YOIO_ENGINE_CHECKPOINT_SAFETENSORS_HEADER_H_
