#include "engine/comm/collective.h"

namespace yoio {

namespace {

const char* Name(Collective collective) {
  switch (collective) {
    case Collective::kBroadcast:
      return "Broadcast";
    case Collective::kAllReduce:
      return "AllReduce";
    case Collective::kAllGather:
      return "AllGather";
    case Collective::kNone:
      break;
  }
  return "unknown collective";  // what a peer may say
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const CollectiveCall& call) {
  return out << Name(call.collective) << " of " << call.bytes << " bytes, root " << call.root;
}

}  // namespace yoio
