#include "engine/row_collector.h"

#include <span>

#include "base/status.h"

namespace yoio {
namespace {

int64_t RowBytes(int part_width) { return part_width * static_cast<int64_t>(sizeof(float)); }

}  // namespace

int64_t RowCollector::Bytes(int world, int part_width, int max_rows) {
  return (1 + world) * max_rows * RowBytes(part_width);
}

absl::StatusOr<std::unique_ptr<RowCollector>> RowCollector::Create(const Parts& parts) {
  auto collector = std::unique_ptr<RowCollector>(new RowCollector(parts));
  const int64_t bytes = parts.max_rows * RowBytes(parts.part_width);
  YOIO_ASSIGN_OR_RETURN(collector->sent_, parts.backend->Allocate(bytes));
  YOIO_ASSIGN_OR_RETURN(collector->received_, parts.backend->Allocate(parts.comm->world() * bytes));
  return collector;
}

absl::Status RowCollector::Collect(const float* mine, const int32_t* rows, int num_rows, float* out) {
  Communicator& comm = *parts_.comm;
  parts_.backend->GatherRows({.src = mine,
                              .rows = rows,
                              .num_rows = num_rows,
                              .row_bytes = RowBytes(parts_.part_width),
                              .out = sent_.data()},
                             *parts_.stream);
  const size_t bytes = num_rows * RowBytes(parts_.part_width);
  YOIO_RETURN_IF_ERROR(comm.AllGather({sent_.As<std::byte>(), bytes},
                                      {received_.As<std::byte>(), comm.world() * bytes}, *parts_.stream));
  if (comm.rank() != 0) return absl::OkStatus();
  parts_.backend->JoinParts({.parts = received_.As<float>(),
                             .num_parts = comm.world(),
                             .part_width = parts_.part_width,
                             .rows = rows,
                             .num_rows = num_rows,
                             .width = parts_.width,
                             .out = out},
                            *parts_.stream);
  return absl::OkStatus();
}

}  // namespace yoio
