#include "server/trace/load_spans.h"

#include <utility>

namespace yoio {

std::vector<Span> LoadSpans(const TraceId& id, TimePoint begin, TimePoint end,
                            const std::vector<LoadTime>& parts, const ModelLabel& model,
                            const SpanMaker& maker) {
  Span root = maker.Make(id, "load", begin, end);
  Set(root, "yoio.model", model.name);
  Set(root, "yoio.model_revision", model.revision);
  std::vector<Span> spans = {root};
  for (const LoadTime& part : parts) spans.push_back(maker.Child(root, part.phase, part.begin, part.end));
  return spans;
}

}  // namespace yoio
