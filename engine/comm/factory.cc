#include "absl/strings/str_cat.h"
#include "engine/comm/communicator.h"
#include "engine/comm/local_communicator.h"

namespace yoio {
namespace {

// What the tests cover. Nothing in the group depends on it.
constexpr int kMaxWorld = 8;

}  // namespace

absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeCommunicators(CommunicatorKind kind,
                                                                             int world) {
  if (world < 1 || world > kMaxWorld) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor parallel size ", world, ": expected 1 to ", kMaxWorld));
  }
  switch (kind) {
    case CommunicatorKind::kLocal:
      return MakeLocalCommunicators(world);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("communicator kind ", static_cast<int>(kind), " is unknown"));
}

}  // namespace yoio
