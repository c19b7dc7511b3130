// What a request must satisfy before it costs anything, and the values that take the place of those left
// open.
#ifndef YOIO_ENGINE_ADMISSION_H_
#define YOIO_ENGINE_ADMISSION_H_

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "engine/request.h"
#include "engine/sequence.h"

namespace yoio {

// Everything that can be said without the prompt's tokens. INVALID_ARGUMENT names the field and what was
// expected; UNIMPLEMENTED when the field needs a tokenizer and the model has none. Never repeats a prompt or
// stop string.
absl::Status CheckRequest(const Request& request, const ModelInfo& model, const Limits& limits);

// The rest: prompt ids inside the vocabulary, and room for prompt and output. Same errors.
absl::Status CheckPrompt(const Request& request, std::span<const int32_t> prompt, const ModelInfo& model);

// Fills `group` from a request that passed both checks: defaults in place of what was left open, a seed drawn
// when none was given, the prompt moved in.
void Resolve(const Request& request, std::vector<int32_t> prompt, const ModelInfo& model,
             SequenceGroup& group);

}  // namespace yoio

#endif  // YOIO_ENGINE_ADMISSION_H_
